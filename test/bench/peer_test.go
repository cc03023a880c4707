package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// A peer is a running daemon and, where it has one, the guest connected to it.
type peer struct {
	name  string
	cmd   *exec.Cmd
	log   *strings.Builder // complete when the process has ended
	guest *vhostusertest.Guest
	conn  *vhostusertest.Conn
}

// guestConfig is that of a guest as QEMU makes it, with n request queues.
func guestConfig(n int) vhostusertest.GuestConfig {
	return vhostusertest.GuestConfig{Rings: 1 + n, QueueSize: 1024, MemSize: 512 << 20, EventIdx: true, Indirect: true}
}

// startVirtiofsd runs Debian's C virtiofsd over dir. Its thread pool is off: a
// burst of FORGETs makes its own system call filter kill it. It has one request
// queue.
func startVirtiofsd(b *testing.B, dir string) *peer {
	b.Helper()
	testenv.Need(b, testenv.Virtiofsd)
	sock := filepath.Join(b.TempDir(), "virtiofsd.sock")
	return start(b, "virtiofsd", sock, 1, testenv.Program("virtiofsd"), "--socket-path="+sock, "--thread-pool-size=0",
		"-o", "source="+dir, "-o", "cache=always", "-o", "sandbox=chroot", "-o", "xattr")
}

// startVrafsd runs our daemon over an image whose chunks are all in its cache.
func startVrafsd(b *testing.B, im *image, queues int) *peer {
	b.Helper()
	sock := filepath.Join(b.TempDir(), "vrafsd.sock")
	return start(b, "vrafsd", sock, queues, daemonBinary(b), "virtiofs", "--sock", sock, "--bootstrap", im.bootstrap,
		"--config", im.config, "--log-level", "error", "--request-queues", strconv.Itoa(queues))
}

// start launches a daemon and connects a guest to its socket.
func start(b *testing.B, name, sock string, queues int, program string, args ...string) *peer {
	b.Helper()
	p := launch(b, name, program, args...)
	err := p.until(func() (err error) {
		p.conn, err = vhostusertest.Dial(sock)
		return err
	})
	if err == nil {
		p.guest, err = vhostusertest.NewGuest(guestConfig(queues))
	}
	if err == nil {
		err = p.guest.Start(p.conn)
	}
	if err != nil {
		b.Fatalf("%s: %v\n%s", name, err, p.log)
	}
	return p
}

// launch starts a process that ends with the benchmark.
func launch(b *testing.B, name, program string, args ...string) *peer {
	b.Helper()
	p := &peer{name: name, cmd: exec.Command(program, args...), log: &strings.Builder{}}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.stop(b) })
	return p
}

// until tries for some seconds, until it succeeds.
func (p *peer) until(try func() error) (err error) {
	for range 500 {
		if err = try(); err == nil {
			return nil
		}
		unix.Nanosleep(&unix.Timespec{Nsec: int64(10 * time.Millisecond)}, nil)
	}
	return err
}

func (p *peer) stop(b *testing.B) {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	_ = p.cmd.Process.Signal(os.Interrupt)
	timer := time.AfterFunc(2*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	timer.Stop()
	if p.guest != nil {
		p.guest.Close()
	}
	if b.Failed() {
		b.Logf("%s says:\n%s", p.name, p.log)
	}
}

// cpu is the CPU time the daemon has used so far, all threads, ended ones too.
func (p *peer) cpu() (time.Duration, error) {
	const perProcess = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|perProcess), &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of %s: %w", p.name, err)
	}
	return time.Duration(ts.Nano()), nil
}

// ownCPU is the CPU time this process has used: the load generator's.
func ownCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // cannot fail for the own process
	return time.Duration(ts.Nano())
}

// rssAnon is the daemon's private memory in bytes (proc(5), RssAnon).
func (p *peer) rssAnon() (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib uint64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("no RssAnon of %s", p.name)
}
