package testtree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ScanOptions choose how Scan reads.
type ScanOptions struct {
	// ReadHoles reads every byte of sparse files too, where Scan would otherwise
	// skip what SEEK_DATA says are holes.
	ReadHoles bool
	// NoData leaves contents unread and Digest empty.
	NoData bool
	// Skip lists paths below the root that are left out, directories with all in
	// them.
	Skip []string
}

// Scan describes the tree at root: the root first, then depth first, names in
// byte order.
func Scan(root string, o ScanOptions) ([]Entry, error) {
	s := scanner{o: o, root: root, seen: map[inode]string{}, buf: make([]byte, 1<<20)}
	if err := s.visit(""); err != nil {
		return nil, fmt.Errorf("scan tree: %w", err)
	}
	return s.entries, nil
}

// Digest is an Entry's Digest for the regular file at path.
func Digest(path string, o ScanOptions) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	s := scanner{o: o, buf: make([]byte, 1<<20)}
	return s.digest(path, st.Size())
}

type inode struct{ dev, ino uint64 }

type scanner struct {
	o       ScanOptions
	root    string
	seen    map[inode]string
	buf     []byte
	entries []Entry
}

func (s *scanner) visit(rel string) error {
	if slices.Contains(s.o.Skip, rel) {
		return nil
	}
	path := filepath.Join(s.root, rel)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	e := Entry{
		Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Size: st.Size,
		Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec,
	}
	if err := s.describe(&e, path, &st); err != nil {
		return err
	}
	s.entries = append(s.entries, e)
	if e.kind() != unix.S_IFDIR {
		return nil
	}
	names, err := readNames(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.visit(join(rel, name)); err != nil {
			return err
		}
	}
	return nil
}

// describe fills in what depends on the kind of file.
func (s *scanner) describe(e *Entry, path string, st *unix.Stat_t) (err error) {
	if e.kind() == unix.S_IFDIR {
		e.Nlink, e.Size = 0, 0
	} else if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if e.Link = s.seen[id]; e.Link == "" {
			s.seen[id] = e.Path
		}
	}
	switch e.kind() {
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = st.Rdev
	case unix.S_IFLNK:
		if e.Target, err = os.Readlink(path); err != nil {
			return err
		}
	case unix.S_IFREG:
		if !s.o.NoData {
			if e.Digest, err = s.digest(path, st.Size); err != nil {
				return err
			}
		}
	}
	e.Xattrs, err = readXattrs(path)
	return err
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func readNames(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func readXattrs(path string) ([]Xattr, error) {
	list, err := readXattr(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || len(list) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	var xs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		v, err := readXattr(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		xs = append(xs, Xattr{name, string(v)})
	}
	slices.SortFunc(xs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xs, nil
}

// readXattr asks for the size first, as programs do.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = get(b)
	return b[:max(n, 0)], err
}

// digest reads the file at path, which fstat said has size bytes, and one byte
// more: a file that goes on past its size is an error.
func (s *scanner) digest(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := NewContentDigest()
	for off := int64(0); off < size; {
		if !s.o.ReadHoles {
			next := nextData(f, off, size)
			if off = next &^ (digestBlock - 1); next >= size {
				break
			}
		}
		n, err := f.ReadAt(s.buf[:min(int64(len(s.buf)), size-off)], off)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read %s at %d of %d: %d bytes, %w", path, off, size, n, err)
		}
		// A short read is fine, but blocks must stay whole.
		if n < len(s.buf) && off+int64(n) < size {
			if n &^= digestBlock - 1; n == 0 {
				return "", fmt.Errorf("read %s at %d: less than a block", path, off)
			}
		}
		h.Add(s.buf[:n], off)
		off += int64(n)
	}
	if n, err := f.ReadAt(s.buf[:1], size); n != 0 || !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read %s behind its end at %d: %d bytes, %v", path, size, n, err)
	}
	return h.Sum(size), nil
}

// nextData is where the first data at or after off starts; off itself if the file
// system can't tell.
func nextData(f *os.File, off, size int64) int64 {
	next, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return next
}
