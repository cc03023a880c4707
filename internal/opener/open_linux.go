package opener

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open doesn't leave regular files and directories to package os, which offers
// every file to the runtime's poller. On a FUSE mount that asks the file's server,
// in a system call that the scheduler does not see: while the server doesn't
// answer, the next collection of garbage stops the whole process.
func (local) Open(path string, flags int, perm uint32) (*os.File, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOCTTY
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() && !fi.IsDir() {
		return os.OpenFile(path, flags, os.FileMode(perm)) // pipes and devices: the kernel answers
	}
	fd, err := openRetry(path, flags, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if flags&unix.O_NONBLOCK != 0 { // or package os would offer it all the same
		if err := unix.SetNonblock(fd, false); err != nil {
			_ = unix.Close(fd)
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openRetry is open(2) until no signal interrupts it.
func openRetry(path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_LARGEFILE, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
