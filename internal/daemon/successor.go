package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
)

// Options that this program gives itself, without their dashes.
const (
	OptionContinue   = "continue"    // go on in this process: a descriptor
	OptionCheckState = "check-state" // say whether that would do: a descriptor
)

// ownPath is where this program was started from, before anything took its place.
var ownPath, errOwnPath = os.Executable()

// A program is the file that is to take our place.
type program struct {
	path string
	stat unix.Stat_t

	shares bool // it was asked about a state with shared directories
}

// findProgram looks at what is at our own path now.
func findProgram(o opener.Opener) (*program, error) {
	if errOwnPath != nil {
		return nil, fmt.Errorf("this program's path is not known: %w", errOwnPath)
	}
	f, _, err := opener.Regular(o, ownPath)
	if err != nil {
		return nil, fmt.Errorf("new program: %w", err)
	}
	defer f.Close()
	p := &program{path: ownPath}
	if err := unix.Fstat(int(f.Fd()), &p.stat); err != nil {
		return nil, fmt.Errorf("new program %s: %w", ownPath, err)
	}
	return p, nil
}

// same is an error if the file at the path is another by now.
func (p *program) same() error {
	var now unix.Stat_t
	if err := unix.Stat(p.path, &now); err != nil {
		return fmt.Errorf("new program %s: %w", p.path, err)
	}
	if now.Dev != p.stat.Dev || now.Ino != p.stat.Ino || now.Mtim != p.stat.Mtim || now.Size != p.stat.Size {
		return fmt.Errorf("%s has changed since it was checked: ask for the upgrade again", p.path)
	}
	return nil
}

// stateFD is where a child finds the state.
const stateFD = 3

// check runs the program as a child, which says whether it takes a state.
func (p *program) check(ctx context.Context, argv []string, state *os.File) error {
	if len(argv) == 0 {
		return errors.New("this program's command line is not known")
	}
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Args = append(append([]string{}, argv...), fmt.Sprintf("--%s=%d", OptionCheckState, stateFD))
	cmd.ExtraFiles = []*os.File{state}
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s does not take the state of this program (%w): %s", p.path, err, out.last())
	}
	return p.same()
}

// A tail keeps the end of what is written to it.
type tail struct{ b bytes.Buffer }

const maxTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p[max(0, len(p)-maxTail):])
	if extra := t.b.Len() - maxTail; extra > 0 {
		t.b.Next(extra)
	}
	return len(p), nil
}

// last is the last line.
func (t *tail) last() string {
	text := strings.TrimSpace(t.b.String())
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// become makes this process the program, with the state and the descriptors in it. It
// returns only if that could not be.
func (p *program) become(argv []string, state *os.File, fds []int) error {
	if err := p.same(); err != nil {
		return err
	}
	fds = append(fds, int(state.Fd()))
	defer setCloseOnExec(fds, unix.FD_CLOEXEC)
	if err := setCloseOnExec(fds, 0); err != nil {
		return err
	}
	err := syscall.Exec(p.path, append(append([]string{}, argv...), fmt.Sprintf("--%s=%d", OptionContinue, int(state.Fd()))), os.Environ())
	return fmt.Errorf("exec %s: %w", p.path, err)
}

// setCloseOnExec sets or clears the flag of descriptors.
func setCloseOnExec(fds []int, flag int) error {
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}
