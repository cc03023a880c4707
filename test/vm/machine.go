package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"vrafs/internal/testenv"
	"vrafs/kata"
	"vrafs/test/vm/guestapi"
)

// A Machine is a running guest.
type Machine struct {
	// Dir holds the console, QEMU's messages and the initramfs.
	Dir string
	// QMP is QEMU's monitor.
	QMP *QMP
	// Release is the kernel's own name for itself.
	Release string

	opts    Options
	cmd     *exec.Cmd
	stop    context.CancelCauseFunc
	exited  chan struct{} // closed when QEMU is gone
	waitErr error         // valid after exited
	control net.Conn
	lines   *bufio.Scanner
	plugged int
	keep    bool
}

// Start boots a machine and waits until its guest program answers. QEMU is killed
// when ctx ends. On failure the error names the directory with the console, which
// is then kept.
func Start(ctx context.Context, o Options) (*Machine, error) {
	o.setDefaults()
	dir, err := os.MkdirTemp("", "vrafs-vm-")
	if err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	m := &Machine{Dir: dir, opts: o, exited: make(chan struct{}), stop: func(error) {}}
	if err := m.start(ctx); err != nil {
		m.keep = true
		return nil, errors.Join(fmt.Errorf("start machine (see %s): %w%s", dir, err, m.Tail(15)), m.Close())
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) error {
	if err := writeInitramfs(filepath.Join(m.Dir, initramfsFile), m.opts.Guest, m.opts.Kernel, m.opts.Files); err != nil {
		return err
	}
	control, err := net.Listen("unix", filepath.Join(m.Dir, controlSocket))
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()
	monitor, err := net.Listen("unix", filepath.Join(m.Dir, monitorSocket))
	if err != nil {
		return err
	}
	defer func() { _ = monitor.Close() }()
	if err := m.run(ctx); err != nil {
		return err
	}
	if m.control, err = m.accept(control); err != nil {
		return err
	}
	m.lines = bufio.NewScanner(m.control)
	m.lines.Buffer(nil, guestapi.MaxLine)
	conn, err := m.accept(monitor)
	if err != nil {
		return err
	}
	if m.QMP, err = newQMP(conn); err != nil {
		return err
	}
	return m.WaitHello()
}

// run starts QEMU and the goroutine that waits for its end.
func (m *Machine) run(ctx context.Context) error {
	program := testenv.Program("qemu-system-x86_64")
	if program == "" {
		return errors.New("no qemu-system-x86_64: install package qemu-system-x86")
	}
	log, err := os.Create(filepath.Join(m.Dir, qemuLogFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args, err := m.opts.arguments(m.Dir)
	if err != nil {
		return err
	}
	ctx, m.stop = context.WithCancelCause(ctx)
	m.cmd = exec.CommandContext(ctx, program, args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() {
		m.waitErr = m.cmd.Wait()
		if ctx.Err() != nil {
			m.waitErr = context.Cause(ctx)
		}
		close(m.exited)
	}()
	for _, f := range m.opts.Filesystems {
		go m.watch(f)
	}
	return nil
}

// watch ends QEMU when a back-end has ended.
func (m *Machine) watch(f Filesystem) {
	select {
	case <-f.Gone:
		m.stop(fmt.Errorf("the back-end of %s is gone", f.Tag))
	case <-m.exited:
	}
}

// accept waits for QEMU to connect, or to die.
func (m *Machine) accept(l net.Listener) (net.Conn, error) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-m.exited:
			_ = l.Close()
		case <-done:
		}
	}()
	conn, err := l.Accept()
	return conn, m.gone(err)
}

// gone replaces err by what became of QEMU, if it has ended.
func (m *Machine) gone(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-m.exited:
		log, _ := os.ReadFile(filepath.Join(m.Dir, qemuLogFile))
		return fmt.Errorf("QEMU ended: %w: %s", errors.Join(m.waitErr, err), strings.TrimSpace(string(log)))
	default:
		return err
	}
}

// WaitHello waits for the guest program to come up: Start does it for the first
// boot, callers do it after a reset.
func (m *Machine) WaitHello() error {
	r, err := m.readReply()
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	if r.Hello == "" {
		return fmt.Errorf("boot: the guest said %+v", r)
	}
	m.Release = r.Hello
	return nil
}

func (m *Machine) readReply() (*guestapi.Reply, error) {
	if !m.lines.Scan() {
		err := m.lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
			<-m.exited // the line ends when QEMU does
		}
		return nil, m.gone(err)
	}
	r := new(guestapi.Reply)
	if err := json.Unmarshal(m.lines.Bytes(), r); err != nil {
		return nil, fmt.Errorf("%w in %q", err, m.lines.Text())
	}
	return r, nil
}

// Send gives the guest a command without waiting for the answer.
func (m *Machine) Send(cmd guestapi.Command, args any) error {
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	if b, err = json.Marshal(guestapi.Request{Cmd: cmd, Args: b}); err != nil {
		return err
	}
	if _, err := m.control.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("guest: %s: %w", cmd, m.gone(err))
	}
	return nil
}

// Receive waits for the answer to cmd and decodes it into result, nil to discard
// it.
func (m *Machine) Receive(cmd guestapi.Command, result any) error {
	r, err := m.readReply()
	switch {
	case err != nil:
		return fmt.Errorf("guest: %s: %w", cmd, err)
	case r.Error != "":
		return fmt.Errorf("guest: %s: %s", cmd, r.Error)
	case r.Hello != "":
		return fmt.Errorf("guest: %s: the guest booted again", cmd)
	case result == nil:
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

// Call has the guest execute a command.
func (m *Machine) Call(cmd guestapi.Command, args, result any) error {
	if err := m.Send(cmd, args); err != nil {
		return err
	}
	return m.Receive(cmd, result)
}

// Hypervisor attaches and detaches devices while the machine runs.
func (m *Machine) Hypervisor() kata.Hypervisor {
	return kata.QEMU{QMP: filepath.Join(m.Dir, qmpSocket)}
}

// Pause stops the guest's CPUs, and with them the device: the front-end takes the
// rings back from the back-end.
func (m *Machine) Pause() error { return m.QMP.Do("stop", nil, nil) }

// Resume lets a paused guest go on where it stood.
func (m *Machine) Resume() error { return m.QMP.Do("cont", nil, nil) }

// Reset presses the reset button and waits until the guest is up again.
func (m *Machine) Reset() error {
	if err := m.QMP.Do("system_reset", nil, nil); err != nil {
		return err
	}
	return m.WaitHello()
}

// Reboot has the guest itself restart and waits until it is up again.
func (m *Machine) Reboot() error {
	if err := m.Send(guestapi.Reboot, nil); err != nil {
		return err
	}
	return m.WaitHello()
}

// PlugMemory adds a DIMM of mb MiB, backed by a shared memfd, to the running
// machine.
func (m *Machine) PlugMemory(mb int) error {
	m.plugged++
	id := fmt.Sprintf("dimm%d", m.plugged)
	mem := map[string]any{"qom-type": "memory-backend-memfd", "id": "mem-" + id, "share": true, "size": int64(mb) << 20}
	if err := m.QMP.Do("object-add", mem, nil); err != nil {
		return err
	}
	return m.QMP.Do("device_add", map[string]any{"driver": "pc-dimm", "id": id, "memdev": "mem-" + id}, nil)
}

// Kill ends QEMU as a crash would.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill()
	<-m.exited
}

// Keep keeps the machine's directory at Close.
func (m *Machine) Keep() { m.keep = true }

// Tail is the end of the console, for messages.
func (m *Machine) Tail(lines int) string {
	return tail("console", filepath.Join(m.Dir, consoleFile), lines)
}

// tail is the last lines of the file at path under a heading, "" if there are none.
func tail(what, path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "\n" + what + ":\n" + strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Close ends QEMU, waits for it and removes the machine's directory unless Keep
// was called.
func (m *Machine) Close() error {
	m.stop(nil)
	if m.cmd != nil && m.cmd.Process != nil {
		<-m.exited
	}
	if m.control != nil {
		_ = m.control.Close()
	}
	if m.QMP != nil {
		_ = m.QMP.conn.Close()
	}
	if m.keep {
		return nil
	}
	return os.RemoveAll(m.Dir)
}
