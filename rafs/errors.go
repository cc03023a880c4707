package rafs

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is the class of every malformed-image error.
	ErrCorrupt = errors.New("corrupt image")
	// ErrUnsupported is the class of images that may be well-formed but use a
	// feature or a layout this package does not read.
	ErrUnsupported = errors.New("unsupported image")
	// ErrNotExist is returned by lookups of a name that the directory does not have.
	ErrNotExist = errors.New("no such entry")
	// ErrNotDir, ErrNotSymlink and ErrNotRegular say that an inode has the wrong type.
	ErrNotDir     = errors.New("not a directory")
	ErrNotSymlink = errors.New("not a symlink")
	ErrNotRegular = errors.New("not a regular file")
)

// A FormatError says which field of which structure is wrong, and where.
type FormatError struct {
	Off   uint64 // byte offset in the bootstrap
	Field string // for example "inode.nlink"
	Why   string
	Class error // ErrCorrupt unless set
}

func (e *FormatError) Error() string { return fmt.Sprintf("%s at %#x: %s", e.Field, e.Off, e.Why) }

// Unwrap gives the class, ErrCorrupt or ErrUnsupported.
func (e *FormatError) Unwrap() error {
	if e.Class != nil {
		return e.Class
	}
	return ErrCorrupt
}
