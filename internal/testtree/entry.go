package testtree

import (
	"encoding/base64"
	"strings"

	"golang.org/x/sys/unix"
)

// An Entry is all that can be seen of one name in a tree. Path, Target and xattr
// names may hold any bytes.
type Entry struct {
	Path   string // below the root, parts joined by /; "" is the root itself
	Mode   uint32 // st_mode, type and permission bits
	UID    uint32
	GID    uint32
	Nlink  uint32 // 0 for directories: file systems disagree on theirs
	Size   int64  // bytes; 0 for directories
	Rdev   uint64 // devices only
	Sec    int64  // mtime, seconds
	Nsec   int64  // mtime, nanoseconds
	Target string // symbolic links only
	// Link is the first path, in the order of Scan, that names the same inode;
	// "" if this is the first or only one.
	Link   string
	Xattrs []Xattr // sorted by name
	Digest string  // regular files: hex, as the package comment describes
}

// An Xattr is one extended attribute.
type Xattr struct{ Name, Value string }

func (e *Entry) kind() uint32 { return e.Mode & unix.S_IFMT }

// text carries any bytes through JSON: as they are while that is lossless,
// otherwise as base64 behind a NUL, which no name holds.
type text string

// MarshalText implements encoding.TextMarshaler.
func (s text) MarshalText() ([]byte, error) {
	if strings.ToValidUTF8(string(s), "") == string(s) && !strings.HasPrefix(string(s), "\x00") {
		return []byte(s), nil
	}
	return []byte("\x00" + base64.StdEncoding.EncodeToString([]byte(s))), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *text) UnmarshalText(b []byte) error {
	if len(b) == 0 || b[0] != 0 {
		*s = text(b)
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(string(b[1:]))
	*s = text(raw)
	return err
}
