// Package testfsx does random things to a file and compares it with what it should be.
//
//	Run(path) --> write, read, mmap, truncate, fallocate, copy, fsync, reopen, ...
//	                |                                |
//	              file                        model in memory     compared at each read
//
// Trust: none needed. Concurrency: a run is one goroutine; several may have files of
// their own. It imports no package for tests, so that a guest's program can have it.
//
// Source: the idea of fsx, the file system exerciser.
package testfsx

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrWrong is the class of what a file system did wrong.
var ErrWrong = errors.New("file differs from what was written")

// Options say how a run goes.
type Options struct {
	Ops     int
	Seed    uint64
	MaxSize int  // bytes; 0: 256 KiB
	NoMmap  bool // leave mappings out
}

// A file is the file and its model.
type file struct {
	path  string
	fd    int
	model []byte
	max   int
	r     *rand.Rand
	log   []string // the last operations
	done  map[string]int
}

// keptOps is how many operations an error tells of.
const keptOps = 24

// Run makes the file at path, does o.Ops things to it, and removes it. It returns how
// often each was done; what the file system does not offer is not counted.
func Run(path string, o Options) (done map[string]int, err error) {
	if o.MaxSize == 0 {
		o.MaxSize = 256 << 10
	}
	f := &file{path: path, fd: -1, max: o.MaxSize, r: rand.New(rand.NewPCG(o.Seed, 0)), done: map[string]int{}}
	if err := f.open(unix.O_CREAT | unix.O_EXCL); err != nil {
		return nil, err
	}
	defer func() {
		_ = unix.Close(f.fd)
		err = errors.Join(err, unix.Unlink(path))
	}()
	ops := f.ops()
	if o.NoMmap {
		delete(ops, "mmap_read")
		delete(ops, "mmap_write")
	}
	names := slices.Sorted(maps.Keys(ops))
	for i := range o.Ops {
		name := names[f.r.IntN(len(names))]
		switch err := ops[name](); {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			delete(ops, name)
			names = slices.Sorted(maps.Keys(ops))
		case err != nil:
			return f.done, fmt.Errorf("operation %d of seed %d, %s: %w; before it: %q", i, o.Seed, name, err, f.log)
		default:
			f.done[name]++
		}
	}
	return f.done, f.check()
}

func (f *file) ops() map[string]func() error {
	return map[string]func() error{
		"write": f.write, "write_more": f.write, "append": f.append, "read": f.read, "read_more": f.read,
		"mmap_read": f.mmapRead, "mmap_write": f.mmapWrite,
		"truncate": f.truncate, "truncate_path": f.truncatePath,
		"allocate": f.allocate, "punch": f.punch, "zero": f.zero, "copy": f.copy,
		"fsync": f.fsync, "reopen": f.reopen, "stat": f.stat, "seek": f.seek,
	}
}

func (f *file) open(flags int) (err error) {
	f.fd, err = unix.Open(f.path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0o644)
	return err
}

// note logs an operation.
func (f *file) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
	f.log = f.log[max(0, len(f.log)-keptOps):]
}

// span is a random range, in the file if in says so.
func (f *file) span(in bool) (off, n int) {
	limit := f.max
	if in {
		limit = len(f.model)
	}
	if limit == 0 {
		return 0, 0
	}
	off = f.r.IntN(limit)
	n = 1 + f.r.IntN(min(limit-off, 64<<10))
	if f.r.IntN(3) == 0 { // pages
		off, n = off&^4095, (n+4095)&^4095
		n = min(n, limit-off)
	}
	return off, n
}

// grow makes the model at least n bytes long.
func (f *file) grow(n int) {
	if n > len(f.model) {
		f.model = append(f.model, make([]byte, n-len(f.model))...)
	}
}

func (f *file) random(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(f.r.Uint32())
	}
	return p
}

func (f *file) write() error {
	off, n := f.span(false)
	f.note("write %d at %d", n, off)
	return f.writeAt(f.random(n), off)
}

func (f *file) writeAt(p []byte, off int) error {
	for done := 0; done < len(p); {
		n, err := unix.Pwrite(f.fd, p[done:], int64(off+done))
		if err != nil {
			return err
		}
		done += n
	}
	f.grow(off + len(p))
	copy(f.model[off:], p)
	return nil
}

func (f *file) append() error {
	n := 1 + f.r.IntN(8<<10)
	if len(f.model)+n > f.max {
		return nil
	}
	f.note("append %d to %d", n, len(f.model))
	fd, err := unix.Open(f.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p := f.random(n)
	got, err := unix.Write(fd, p)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%w: %d of %d bytes appended", ErrWrong, got, n)
	}
	f.model = append(f.model, p...)
	return nil
}

func (f *file) read() error {
	off, n := f.span(true)
	f.note("read %d at %d", n, off)
	p := make([]byte, n+1)
	got, err := unix.Pread(f.fd, p, int64(off))
	if err != nil {
		return err
	}
	want := f.model[off:min(off+len(p), len(f.model))]
	if got != len(want) {
		return fmt.Errorf("%w: read %d bytes at %d, want %d", ErrWrong, got, off, len(want))
	}
	return compare(p[:got], want, off)
}

// compare says where two ranges differ first.
func compare(got, want []byte, off int) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("%w: byte %d is %#x, want %#x", ErrWrong, off+i, got[i], want[i])
		}
	}
	return nil
}

// mapped maps the file whole for as long as use runs.
func (f *file) mapped(prot int, use func(p []byte) error) error {
	p, err := unix.Mmap(f.fd, 0, len(f.model), prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return errors.Join(use(p), unix.Munmap(p))
}

func (f *file) mmapRead() error {
	off, n := f.span(true)
	if n == 0 {
		return nil
	}
	f.note("map and read %d at %d", n, off)
	return f.mapped(unix.PROT_READ, func(p []byte) error { return compare(p[off:off+n], f.model[off:off+n], off) })
}

func (f *file) mmapWrite() error {
	off, n := f.span(true)
	if n == 0 {
		return nil
	}
	f.note("map and write %d at %d", n, off)
	data := f.random(n)
	copy(f.model[off:], data)
	sync := f.r.IntN(2) == 0
	return f.mapped(unix.PROT_READ|unix.PROT_WRITE, func(p []byte) error {
		copy(p[off:], data)
		if sync {
			return unix.Msync(p, unix.MS_SYNC)
		}
		return nil
	})
}

func (f *file) truncate() error {
	n := f.r.IntN(f.max)
	f.note("truncate %d to %d", len(f.model), n)
	if err := unix.Ftruncate(f.fd, int64(n)); err != nil {
		return err
	}
	f.resize(n)
	return nil
}

func (f *file) truncatePath() error {
	n := f.r.IntN(f.max)
	f.note("truncate %d by path to %d", len(f.model), n)
	if err := unix.Truncate(f.path, int64(n)); err != nil {
		return err
	}
	f.resize(n)
	return nil
}

func (f *file) resize(n int) {
	f.grow(n)
	f.model = f.model[:n:n] // what grows again is zero
}

func (f *file) allocate() error {
	off, n := f.span(false)
	keep := f.r.IntN(2) == 0
	f.note("allocate %d at %d, size kept: %v", n, off, keep)
	mode := uint32(0)
	if keep {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	if err := unix.Fallocate(f.fd, mode, int64(off), int64(n)); err != nil {
		return err
	}
	if !keep {
		f.grow(off + n)
	}
	return nil
}

func (f *file) punch() error {
	return f.blank("punch", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
}
func (f *file) zero() error {
	return f.blank("zero", unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
}

func (f *file) blank(what string, mode uint32) error {
	off, n := f.span(true)
	if n == 0 {
		return nil
	}
	f.note("%s %d at %d", what, n, off)
	if err := unix.Fallocate(f.fd, mode, int64(off), int64(n)); err != nil {
		return err
	}
	clear(f.model[off : off+n])
	return nil
}

// copy copies a range to another that does not overlap it.
func (f *file) copy() error {
	off, n := f.span(true)
	to, _ := f.span(false)
	n = min(n, f.max-to)
	if n == 0 || off < to+n && to < off+n {
		return nil
	}
	f.note("copy %d from %d to %d", n, off, to)
	from, at := int64(off), int64(to)
	for left := n; left > 0; {
		k, err := unix.CopyFileRange(f.fd, &from, f.fd, &at, left, 0)
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("%w: %d bytes less copied", ErrWrong, left)
		}
		left -= k
	}
	f.grow(to + n)
	copy(f.model[to:], f.model[off:off+n])
	return nil
}

func (f *file) fsync() error {
	f.note("fsync")
	if f.r.IntN(2) == 0 {
		return unix.Fdatasync(f.fd)
	}
	return unix.Fsync(f.fd)
}

func (f *file) reopen() error {
	f.note("close and open")
	if err := unix.Close(f.fd); err != nil {
		return err
	}
	return f.open(0)
}

func (f *file) stat() error {
	var st unix.Stat_t
	if err := unix.Stat(f.path, &st); err != nil {
		return err
	}
	if st.Size != int64(len(f.model)) {
		return fmt.Errorf("%w: %d bytes long, want %d", ErrWrong, st.Size, len(f.model))
	}
	return nil
}

// seek looks for data and a hole: what lies before data must be zero.
func (f *file) seek() error {
	off, n := f.span(true)
	if n == 0 {
		return nil
	}
	f.note("seek from %d", off)
	data, err := unix.Seek(f.fd, int64(off), unix.SEEK_DATA)
	if err == unix.ENXIO {
		data = int64(len(f.model))
	} else if err != nil {
		return err
	}
	if i := bytes.IndexFunc(f.model[off:data], func(r rune) bool { return r != 0 }); i >= 0 {
		return fmt.Errorf("%w: no data from %d to %d, but at %d", ErrWrong, off, data, off+i)
	}
	hole, err := unix.Seek(f.fd, int64(off), unix.SEEK_HOLE)
	if err != nil || hole < int64(off) || hole > int64(len(f.model)) {
		return fmt.Errorf("%w: hole behind %d is at %d: %v", ErrWrong, off, hole, err)
	}
	return nil
}

// check compares the whole file.
func (f *file) check() error {
	p := make([]byte, len(f.model)+1)
	n, err := unix.Pread(f.fd, p, 0)
	if err != nil {
		return err
	}
	if n != len(f.model) {
		return fmt.Errorf("%w: %d bytes at the end, want %d", ErrWrong, n, len(f.model))
	}
	return compare(p[:n], f.model, 0)
}
