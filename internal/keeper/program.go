package keeper

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Option is the command-line option, without its dashes, that tells the program
// what it was started for. It is added at the end of the command line.
const Option = "keeper-link"

// Values of Option.
const (
	Hold   = "hold"   // be the keeper: call Run
	Resume = "resume" // go on for a predecessor: call Inherit
)

// Spawn starts a keeper for this process. argv is this process's command line, with
// the program's name, which the keeper repeats to start a successor.
func Spawn(argv []string) (*Link, error) {
	// A session of its own keeps the terminal's signals away: they are for the server.
	conn, cmd, err := again(argv, Hold, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		return nil, err
	}
	return &Link{conn: conn, reap: func() { _ = cmd.Wait() }}, nil
}

// again starts this program with a role, and gives our end of the link to it.
func again(argv []string, role string, attr *syscall.SysProcAttr) (*net.UnixConn, *exec.Cmd, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "link")
	defer theirs.Close()
	ours, err := connOf(os.NewFile(uintptr(pair[0]), "link"))
	if err != nil {
		return nil, nil, err
	}
	// The file may have been replaced meanwhile; the link in /proc still leads to the
	// program that made the state.
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append(plain(argv), "--"+Option+"="+role)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	return ours, cmd, nil
}

// plain is a copy of argv without a role.
func plain(argv []string) []string {
	return slices.DeleteFunc(slices.Clone(argv), func(a string) bool {
		return a == "--"+Option+"="+Hold || a == "--"+Option+"="+Resume
	})
}
