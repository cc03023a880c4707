package daemon

import (
	"context"
	"log/slog"
	"strings"

	"vrafs/blobcache"
	"vrafs/config"
	"vrafs/rafs"
)

const (
	// prefetchWindow is how much of a file is asked for at once, in bytes.
	prefetchWindow = 16 << 20
	// maxPrefetchWalk bounds the inodes looked at below listed directories: an
	// image may say anything, and prefetch is a hint.
	maxPrefetchWalk = 4 << 20
)

// A prefetcher warms the cache of one image, in nydusd's order: what the image
// says of its blobs, then files, then the rest.
type prefetcher struct {
	im    *rafs.Image
	cache *blobcache.Cache
	log   *slog.Logger
	spans []rafs.Span
	left  int // inodes and windows that may still be looked at
}

// A warmUp says what is prefetched.
type warmUp struct{ lists, all bool }

// newWarmUp reads both prefetch tables of a configuration: that of the file system
// speaks of files, that of the cache of blobs. Version 1 has one for both.
func newWarmUp(c *config.Config) warmUp {
	fs, cache := &c.Rafs.Prefetch, &c.Cache.Prefetch
	return warmUp{
		lists: fs.Enable,
		all:   fs.Enable && fs.PrefetchAll || cache.Enable && cache.PrefetchAll,
	}
}

// run prefetches until done or ctx ends. files replaces the image's own table
// unless it is nil.
func (p *prefetcher) run(ctx context.Context, w warmUp, files []string) {
	if w.lists && p.lists(ctx, files) != nil || !w.all {
		return
	}
	for i := range p.im.Blobs() {
		if p.cache.PrefetchBlob(ctx, i, 0, 0) != nil {
			return
		}
	}
}

// lists prefetches what the image or the user names. Only the end of ctx is an
// error.
func (p *prefetcher) lists(ctx context.Context, files []string) error {
	for i, b := range p.im.Blobs() {
		if b.PrefetchSize == 0 {
			continue
		}
		if err := p.cache.PrefetchBlob(ctx, i, 0, uint64(b.PrefetchSize)); err != nil {
			return err
		}
	}
	p.left = maxPrefetchWalk
	list := p.im.Prefetch()
	if files != nil {
		list = p.resolve(files)
	}
	for _, ino := range list {
		if err := p.tree(ctx, ino); err != nil {
			return err
		}
	}
	return nil
}

// resolve finds the inodes of paths. What isn't there is skipped.
func (p *prefetcher) resolve(files []string) []rafs.Ino {
	var list []rafs.Ino
	for _, f := range files {
		ino, err := p.lookup(f)
		if err != nil {
			p.log.Warn("prefetch file is skipped", "path", f, "err", err)
			continue
		}
		list = append(list, ino)
	}
	return list
}

func (p *prefetcher) lookup(path string) (rafs.Ino, error) {
	ino := p.im.Root()
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		n, err := p.im.Inode(ino)
		if err != nil {
			return 0, err
		}
		if ino, err = n.Lookup([]byte(name)); err != nil {
			return 0, err
		}
	}
	return ino, nil
}

// tree prefetches a file, or every file below a directory. Only the end of ctx is
// an error; what can't be read is left out.
func (p *prefetcher) tree(ctx context.Context, top rafs.Ino) error {
	for todo := []rafs.Ino{top}; len(todo) > 0 && p.left > 0; p.left-- {
		ino := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n, err := p.im.Inode(ino)
		switch {
		case err != nil:
		case n.IsRegular():
			if err := p.file(ctx, &n); err != nil {
				return err
			}
		case n.IsDir():
			todo = p.children(&n, todo)
		}
	}
	return ctx.Err()
}

// children appends what is in a directory.
func (p *prefetcher) children(n *rafs.Inode, todo []rafs.Ino) []rafs.Ino {
	c, err := n.Dir(0)
	if err != nil {
		return todo
	}
	var d rafs.Dirent
	for len(todo) < p.left {
		if ok, err := c.Next(&d); !ok || err != nil {
			break
		}
		if name := string(d.Name); name != "." && name != ".." {
			todo = append(todo, d.Ino)
		}
	}
	return todo
}

func (p *prefetcher) file(ctx context.Context, n *rafs.Inode) error {
	for off := uint64(0); off < n.Size() && p.left > 0; off += prefetchWindow {
		p.left-- // a sparse file may claim any size
		var err error
		if p.spans, err = n.AppendSpans(p.spans[:0], off, min(prefetchWindow, n.Size()-off)); err != nil {
			return nil // a damaged file is the reader's to report
		}
		if err := p.cache.Prefetch(ctx, p.spans); err != nil {
			return err
		}
	}
	return nil
}
