package vm

import (
	"fmt"
	"path/filepath"

	"vrafs/kata"
)

// Options describe a machine.
type Options struct {
	Kernel *Kernel
	// Guest is the guest program, as BuildGuest made it.
	Guest string
	// Files are packed into the initramfs below guestapi.FilesDir, executable.
	Files map[string][]byte
	// MemMB is the memory at boot in MiB; 0 means 512.
	MemMB int
	// PlugMB is how much memory can be added later, in MiB.
	PlugMB int
	// CPUs is the number of emulated CPUs; 0 means 2.
	CPUs int
	// Filesystems are the virtio-fs devices; their back-ends must be listening.
	Filesystems []Filesystem
}

// A Filesystem is one vhost-user-fs device.
type Filesystem struct {
	Socket    string // path of the back-end's socket
	Tag       string
	Queues    int // request queues; 0 means 1
	QueueSize int // descriptors; 0 means 1024
	// Packed offers the guest packed rings instead of split ones.
	Packed bool
	// Gone, unless nil, is closed when the back-end has ended. QEMU is then killed:
	// it never reconnects, and the guest would wait for ever.
	Gone <-chan struct{}
}

func (o *Options) setDefaults() {
	if o.MemMB == 0 {
		o.MemMB = 512
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	for i := range o.Filesystems {
		f := &o.Filesystems[i]
		if f.Queues == 0 {
			f.Queues = 1
		}
		if f.QueueSize == 0 {
			f.QueueSize = 1024
		}
	}
}

// kernelCommandLine leaves out what costs an emulated CPU time and gains a test
// nothing. The emulated TSC can't be calibrated on a busy host. Memory that is plugged
// in comes online at once, removable.
const kernelCommandLine = "console=ttyS0 loglevel=5 panic=0 mitigations=off nokaslr no_timer_check " +
	"tsc=unstable clocksource=hpet random.trust_cpu=on audit=0 apparmor=0 cryptomgr.notests=1 memhp_default_state=online_movable"

// Files of a machine's directory.
const (
	consoleFile   = "console.log"
	qemuLogFile   = "qemu.log"
	initramfsFile = "initramfs"
	controlSocket = "control.sock"
	monitorSocket = "monitor.sock"
	qmpSocket     = "qmp.sock" // QEMU listens there
)

// arguments is QEMU's command line for a machine whose files are in dir.
func (o *Options) arguments(dir string) ([]string, error) {
	memory := fmt.Sprintf("size=%dM", o.MemMB)
	if o.PlugMB > 0 {
		memory += fmt.Sprintf(",slots=4,maxmem=%dM", o.MemMB+o.PlugMB)
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", fmt.Sprint(o.CPUs),
		"-M", "pc,memory-backend=mem", "-m", memory,
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,share=on,size=%dM", o.MemMB),
		"-kernel", o.Kernel.Image, "-initrd", filepath.Join(dir, initramfsFile), "-append", kernelCommandLine,
		"-serial", "file:" + filepath.Join(dir, consoleFile),
		"-chardev", "socket,id=control,path=" + filepath.Join(dir, controlSocket), "-serial", "chardev:control",
		"-chardev", "socket,id=monitor,path=" + filepath.Join(dir, monitorSocket), "-mon", "chardev=monitor,mode=control",
		"-qmp", "unix:" + filepath.Join(dir, qmpSocket) + ",server=on,wait=off",
	}
	for i, f := range o.Filesystems {
		device, err := kata.QEMUArguments(kata.Device{ID: fmt.Sprintf("fs%d", i), Tag: f.Tag, Socket: f.Socket, Queues: f.Queues, QueueSize: f.QueueSize})
		if err != nil {
			return nil, err
		}
		device[len(device)-1] += fmt.Sprintf(",packed=%t", f.Packed)
		args = append(args, device...)
	}
	return args, nil
}
