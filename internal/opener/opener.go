package opener

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// ErrName is the class of names that cannot be the last element of a path.
var ErrName = errors.New("not a plain file name")

// ErrNotRegular is the class of what Regular says about directories, devices and
// the like.
var ErrNotRegular = errors.New("not a regular file")

// An Opener opens files by path. Errors are those of package os.
type Opener interface {
	// Open opens path with the given O_ flags; O_CLOEXEC and O_NOCTTY are always
	// added. perm counts if the call creates the file. Regular files and directories
	// are never handed to the runtime's poller.
	Open(path string, flags int, perm uint32) (*os.File, error)
	// MkdirAll makes the directory path and its parents if missing.
	MkdirAll(path string, perm uint32) error
	// Rename moves a file inside one directory, replacing the target.
	Rename(from, to string) error
	// Remove deletes the file at path.
	Remove(path string) error
}

// Local returns the Opener that works in this process.
func Local() Opener { return local{} }

type local struct{}

func (local) MkdirAll(path string, perm uint32) error { return os.MkdirAll(path, os.FileMode(perm)) }

func (local) Rename(from, to string) error { return os.Rename(from, to) }

func (local) Remove(path string) error { return os.Remove(path) }

// Name refuses, with an error of class ErrName, what an image or a guest may call
// a file but what would lead out of a directory or cannot be a name at all.
func Name(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %.64q", ErrName, name)
	}
	return nil
}

// Regular opens path for reading if it is a regular file. It does not hang on a
// FIFO and has no side effect on a device. What is not regular is ErrNotRegular.
func Regular(o Opener, path string) (*os.File, os.FileInfo, error) {
	f, err := o.Open(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if !fi.Mode().IsRegular() {
		f.Close()
		return nil, nil, fmt.Errorf("open %s: %w", path, ErrNotRegular)
	}
	return f, fi, nil
}
