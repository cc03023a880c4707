package daemon

import (
	"log/slog"

	"vrafs/blobcache"
	"vrafs/config"
	"vrafs/internal/filelist"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

const (
	// warmWindow is how much of a file is asked for at once, in bytes.
	warmWindow = 16 << 20
	// maxWarmWalk bounds the inodes looked at below listed directories: an image may
	// say anything, and prefetch is a hint.
	maxWarmWalk = 4 << 20
)

// A warmUp says what is prefetched of an image when it is mounted.
type warmUp struct {
	lists bool // what the image says, or the user's list
	all   bool // then every blob
}

// newWarmUp reads both prefetch tables of a configuration: that of the file system
// speaks of files, that of the cache of blobs. Version 1 has one for both.
func newWarmUp(c *config.Config) warmUp {
	fs, cache := &c.Rafs.Prefetch, &c.Cache.Prefetch
	return warmUp{
		lists: fs.Enable,
		all:   wholeBlobs(fs) || wholeBlobs(cache),
	}
}

// wholeBlobs reports whether a table asks for everything. stream_prefetch does so, too, by
// one request for each (prefetchOf).
func wholeBlobs(p *config.Prefetch) bool { return p.Enable && (p.PrefetchAll || p.StreamPrefetch) }

// A warmer finds the chunks of what is to be prefetched, in nydusd's order: what the
// image says of its blobs, then files, then the rest.
type warmer struct {
	im    *rafs.Image
	log   *slog.Logger
	spans []rafs.Span
	left  int // inodes and windows that may still be looked at
}

// A piece is a part of a file, or everything below a directory.
type piece struct {
	ino    rafs.Ino
	ranges []filelist.Range // nil: all
}

// table is the image's own list.
func (w *warmer) table() (list []piece) {
	for _, ino := range w.im.Prefetch() {
		list = append(list, piece{ino: ino})
	}
	return list
}

// resolve finds the files of a list. What isn't there is skipped.
func (w *warmer) resolve(files []filelist.File) (list []piece) {
	for _, f := range files {
		n, err := imagewalk.Find(w.im, f.Path)
		if err != nil {
			w.log.Warn("prefetch file is skipped", "path", f.Path, "err", err)
			continue
		}
		list = append(list, piece{n.Ino(), f.Ranges})
	}
	return list
}

// ranges gives the leading bytes of blobs that the image wants first to f.
func (w *warmer) ranges(f func(blob int, size uint64) bool) bool {
	for i, b := range w.im.Blobs() {
		if b.PrefetchSize != 0 && !f(i, uint64(b.PrefetchSize)) {
			return false
		}
	}
	return true
}

// each gives the spans of pieces, in their order, to f until that returns false.
func (w *warmer) each(list []piece, f func(spans []rafs.Span) bool) bool {
	w.left = maxWarmWalk
	for _, p := range list {
		if !w.tree(&p, f) {
			return false
		}
	}
	return true
}

// tree gives the spans of a file, or of every file below a directory. What can't be
// read is left out.
func (w *warmer) tree(p *piece, f func([]rafs.Span) bool) bool {
	for todo := []rafs.Ino{p.ino}; len(todo) > 0 && w.left > 0; w.left-- {
		ino := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n, err := w.im.Inode(ino)
		switch {
		case err != nil:
		case n.IsRegular():
			if !w.file(&n, p.ranges, f) {
				return false
			}
		case n.IsDir():
			todo = w.children(&n, todo)
		}
	}
	return true
}

// children appends what is in a directory.
func (w *warmer) children(n *rafs.Inode, todo []rafs.Ino) []rafs.Ino {
	c, err := n.Dir(0)
	if err != nil {
		return todo
	}
	var d rafs.Dirent
	for len(todo) < w.left {
		if ok, err := c.Next(&d); !ok || err != nil {
			break
		}
		if name := string(d.Name); name != "." && name != ".." {
			todo = append(todo, d.Ino)
		}
	}
	return todo
}

// file gives the spans of a file, or of ranges of it.
func (w *warmer) file(n *rafs.Inode, ranges []filelist.Range, f func([]rafs.Span) bool) bool {
	if ranges == nil {
		ranges = []filelist.Range{{0, n.Size()}}
	}
	for _, r := range ranges {
		end := min(r.End(), n.Size())
		for off := r[0]; off < end && w.left > 0; off += min(warmWindow, end-off) {
			w.left-- // a sparse file may claim any size
			var err error
			if w.spans, err = n.AppendSpans(w.spans[:0], off, min(warmWindow, end-off)); err != nil {
				return true // a damaged file is the reader's to report
			}
			if !f(w.spans) {
				return false
			}
		}
	}
	return true
}

// size is how many bytes the pieces have.
func (w *warmer) size(list []piece) (n uint64) {
	w.each(list, func(spans []rafs.Span) bool {
		n += length(spans)
		return true
	})
	return n
}

func length(spans []rafs.Span) (n uint64) {
	for i := range spans {
		n += uint64(spans[i].Len)
	}
	return n
}

// feedRanges gives a prefetch what the image says of its blobs.
func (w *warmer) feedRanges(p *blobcache.Prefetch) {
	w.ranges(func(blob int, size uint64) bool { return p.AddBlob(blob, 0, size) })
}

// feedBlobs gives a prefetch all blobs.
func (w *warmer) feedBlobs(p *blobcache.Prefetch) {
	for i := range w.im.Blobs() {
		if !p.AddBlob(i, 0, 0) {
			return
		}
	}
}
