package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// A dirSource reads a directory tree. Every path is opened relative to the root's
// descriptor, in steps short enough for the kernel.
type dirSource struct {
	root *os.File
	name string
	// linkAny keeps hard links of symlinks, devices and so on. v5 has links of
	// regular files only (rafs.md 1.7).
	linkAny bool

	mu    sync.Mutex // guards links
	links map[devIno]*inode
}

// A devIno names a file of the source: hard links share it.
type devIno struct{ dev, ino uint64 }

func openDirSource(path string, linkAny bool) (*dirSource, error) {
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	return &dirSource{root: f, name: path, linkAny: linkAny, links: map[devIno]*inode{}}, nil
}

// pathStep is how many bytes of a path one openat is given.
const pathStep = unix.PathMax - 300

// openat opens path relative to dir and calls f with the descriptor.
func openat(dir int, path string, flags int) (int, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		path = "."
	}
	owned := -1
	for len(path) > pathStep {
		i := strings.LastIndexByte(path[:pathStep], '/')
		fd, err := retryOpen(dir, path[:i], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if owned >= 0 {
			unix.Close(owned)
		}
		if err != nil {
			return -1, err
		}
		dir, owned, path = fd, fd, path[i+1:]
	}
	fd, err := retryOpen(dir, path, flags|unix.O_NOFOLLOW)
	if owned >= 0 {
		unix.Close(owned)
	}
	return fd, err
}

func retryOpen(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// walk reads the whole tree with n goroutines. The result does not depend on
// their order: children are sorted, and hard links share one inode.
func (s *dirSource) walk(ctx context.Context, n int) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.root.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", s.name, err)
	}
	root := &node{in: &inode{}}
	if err := s.fill(root, &st, int(s.root.Fd()), "", "."); err != nil {
		return nil, err
	}
	root.in.mtime, root.in.mtimeNsec = 0, 0

	w := &dirWalk{s: s, ctx: ctx, todo: []*node{root}}
	w.cond.L = &w.mu
	var wg sync.WaitGroup
	wg.Add(n)
	for range n {
		go func() {
			defer wg.Done()
			w.run()
		}()
	}
	wg.Wait()
	if w.err == nil {
		w.err = ctx.Err()
	}
	return root, w.err
}

// A dirWalk is the list of directories still to be read. It is a stack, so that
// it stays short.
type dirWalk struct {
	s    *dirSource
	ctx  context.Context
	mu   sync.Mutex // guards what follows
	cond sync.Cond
	todo []*node
	busy int
	err  error
}

func (w *dirWalk) run() {
	buf := make([]byte, 64<<10)
	xbuf := make([]byte, 0, 1024)
	var dirs []*node
	for {
		w.mu.Lock()
		for len(w.todo) == 0 && w.busy > 0 && w.err == nil {
			w.cond.Wait()
		}
		if len(w.todo) == 0 || w.err != nil || w.ctx.Err() != nil {
			w.mu.Unlock()
			w.cond.Broadcast()
			return
		}
		d := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.busy++
		w.mu.Unlock()

		var err error
		dirs, err = w.s.readDir(d, buf, xbuf, dirs[:0])

		w.mu.Lock()
		w.busy--
		w.todo = append(w.todo, dirs...)
		if err != nil && w.err == nil {
			w.err = err
		}
		w.mu.Unlock()
		w.cond.Broadcast()
	}
}

// readDir reads one directory into d and returns its sub-directories.
func (s *dirSource) readDir(d *node, buf, xbuf []byte, dirs []*node) ([]*node, error) {
	path := d.path()
	fd, err := openat(int(s.root.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.name+path, err)
	}
	defer unix.Close(fd)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read directory %s: %w", s.name+path, err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	d.kids = make([]*node, 0, len(names))
	nodes := make([]node, len(names))
	for i, name := range names {
		k := &nodes[i]
		k.name, k.parent = name, d
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("stat %s: %w", s.name+k.path(), err)
		}
		if err := s.fill(k, &st, fd, path, name); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name+k.path(), err)
		}
		d.kids = append(d.kids, k)
		if k.in.isDir() {
			dirs = append(dirs, k)
		}
	}
	d.sortKids()
	return dirs, nil
}

// fill gives n its inode: a new one, or that of an earlier hard link.
func (s *dirSource) fill(n *node, st *unix.Stat_t, dir int, parent, name string) error {
	if len(name) > rafs.MaxNameLen {
		return fmt.Errorf("%w: name of %d bytes", ErrSource, len(name))
	}
	in := &inode{mode: st.Mode, uid: st.Uid, gid: st.Gid,
		mtime: st.Mtim.Sec, mtimeNsec: uint32(st.Mtim.Nsec)}
	if have := s.linked(in, st); have != nil {
		n.in = have
		return nil
	}
	n.in = in
	switch {
	case in.isReg():
		in.size = uint64(st.Size)
		if uint64(st.Blocks)*512 < in.size {
			in.flags |= inodeSparse
		}
	case in.isDev():
		in.rdev = deviceNumber(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	case in.isLink():
		target, err := readlinkat(dir, name)
		if err != nil {
			return fmt.Errorf("readlink: %w", err)
		}
		in.target, in.size = target, uint64(len(target))
	}
	xs, err := s.readXattrs(dir, parent, name)
	if err != nil {
		return err
	}
	return in.setXattrs(xs)
}

// linked gives the inode that an earlier name of the same file has, or nil: then
// in is the first.
func (s *dirSource) linked(in *inode, st *unix.Stat_t) *inode {
	if st.Nlink < 2 || in.isDir() || !in.isReg() && !s.linkAny {
		return nil
	}
	key := devIno{uint64(st.Dev), st.Ino}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.links[key]; have != nil {
		return have
	}
	s.links[key] = in
	return nil
}

// deviceNumber is the kernel's 32-bit encoding (rafs.md 2.12).
func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major&0xfff<<8 | minor&^0xff<<12
}

func readlinkat(dir int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		if len(buf) > 64<<10 {
			return "", unix.ENAMETOOLONG
		}
		buf = make([]byte, 4*len(buf))
	}
}

// readXattrs reads all xattrs the kernel lists for a name, without following it.
func (s *dirSource) readXattrs(dir int, parent, name string) ([]xattr, error) {
	path := s.name + parent + "/" + name
	if len(path) >= unix.PathMax-1 {
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	}
	var small [256]byte
	list, err := growing(small[:], func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	var xs []xattr
	for _, key := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		v, err := growing(make([]byte, 256), func(b []byte) (int, error) { return unix.Lgetxattr(path, key, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", key, err)
		}
		xs = append(xs, xattr{key, append([]byte(nil), v...)})
	}
	return xs, nil
}

// growing calls f with larger buffers until the answer fits.
func growing(buf []byte, f func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := f(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || len(buf) > 1<<20 {
			return nil, err
		}
		buf = make([]byte, 8*len(buf))
	}
}
