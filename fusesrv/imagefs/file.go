package imagefs

import (
	"context"
	"slices"
	"syscall"

	"vrafs/blobcache"
	"vrafs/fusesrv"
	"vrafs/rafs"
)

// maxRefetch bounds how often data may vanish between Fetch and Read of one
// request.
const maxRefetch = 3

// scratch is what a worker needs for images.
type scratch struct {
	spans  []rafs.Span
	reader blobcache.Reader
	names  []byte
}

var local = fusesrv.NewLocal[scratch]()

// Open gives no handle; the guest may keep what it reads, and need not flush.
func (f *FS) Open(r *fusesrv.Request, in *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	n, e := f.inode(r)
	switch {
	case e != 0:
		return e
	case n.IsDir():
		return syscall.EISDIR
	case !n.IsRegular():
		return syscall.EINVAL
	case in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY, in.Flags&syscall.O_TRUNC != 0:
		return syscall.EROFS
	}
	out.OpenFlags = fusesrv.OpenKeepCache | fusesrv.OpenNoFlush
	return 0
}

// Read answers from the cache, or leaves a miss.
func (f *FS) Read(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	if !n.IsRegular() {
		return errnoOf(rafs.ErrNotRegular)
	}
	if in.Offset >= n.Size() || in.Size == 0 {
		return 0
	}
	size := int(min(uint64(in.Size), n.Size()-in.Offset))
	s := local.Of(r.Worker())
	var err error
	if s.spans, err = n.AppendSpans(s.spans[:0], in.Offset, uint64(size)); err != nil {
		return errnoOf(err)
	}
	f.trace.note(traced{n.Ino(), n.Size(), uint64(f.im.ChunkSize())}, in.Offset, s.spans)
	got, err := f.cache.TryRead(&s.reader, s.spans, w.Data(size))
	switch {
	case err == blobcache.ErrMiss:
		return r.Pend(&miss{f: f, spans: slices.Clone(s.spans), near: near(&n), size: size, skip: got})
	case err != nil:
		return errnoOf(err)
	case got != size:
		return syscall.EIO
	}
	w.SetLen(size)
	return 0
}

// near is the chunks of a file, where they follow each other in one blob.
func near(n *rafs.Inode) (near blobcache.Near) {
	first, err := n.AppendSpans(nil, 0, 1)
	if err != nil || len(first) == 0 {
		return near
	}
	last, err := n.AppendSpans(nil, n.Size()-1, 1)
	if err != nil || len(last) == 0 || first[0].Blob != last[0].Blob || first[0].Index > last[0].Index {
		return near
	}
	return blobcache.Near{Blob: first[0].Blob, First: first[0].Index, Last: last[0].Index}
}

// A miss is a READ that has to wait for data.
type miss struct {
	f     *FS
	spans []rafs.Span
	near  blobcache.Near
	size  int
	skip  int // bytes that the guest has already
	tries int
	held  blobcache.Held
}

// Wait fetches what is missing.
func (m *miss) Wait(ctx context.Context) syscall.Errno {
	return errnoOf(m.f.cache.FetchNear(ctx, m.spans, m.near, &m.held))
}

// Finish copies it to the guest.
func (m *miss) Finish(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	got, err := m.f.cache.Read(&local.Of(r.Worker()).reader, m.spans, m.skip, w.Data(m.size), &m.held)
	if err == blobcache.ErrMiss && m.tries < maxRefetch {
		m.tries++
		m.skip = got
		return fusesrv.Pending
	}
	m.held.Release()
	if err != nil {
		return errnoOf(err)
	}
	if got != m.size {
		return syscall.EIO
	}
	w.SetLen(m.size)
	return 0
}

// Drop gives the data up.
func (m *miss) Drop() { m.held.Release() }

// Lseek finds data everywhere: images do not tell holes.
func (f *FS) Lseek(r *fusesrv.Request, in *fusesrv.LseekIn, out *fusesrv.LseekOut) syscall.Errno {
	n, e := f.inode(r)
	switch {
	case e != 0:
		return e
	case !n.IsRegular(), in.Whence != fusesrv.SeekData && in.Whence != fusesrv.SeekHole:
		return syscall.EINVAL
	case in.Offset >= n.Size():
		return syscall.ENXIO
	}
	out.Offset = in.Offset
	if in.Whence == fusesrv.SeekHole {
		out.Offset = n.Size()
	}
	return 0
}

// Release has nothing to release.
func (f *FS) Release(*fusesrv.Request, *fusesrv.ReleaseIn) syscall.Errno { return 0 }

// Fsync has nothing to write.
func (f *FS) Fsync(*fusesrv.Request, *fusesrv.FsyncIn) syscall.Errno { return 0 }

// Syncfs has nothing to write.
func (f *FS) Syncfs(*fusesrv.Request) syscall.Errno { return 0 }

// Ioctl knows none.
func (f *FS) Ioctl(*fusesrv.Request, *fusesrv.IoctlIn, *fusesrv.Reply) syscall.Errno {
	return syscall.ENOTTY
}
