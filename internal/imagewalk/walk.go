// Package imagewalk visits the names of an image, depth first: a directory before
// its children, children in the order the image keeps them.
//
//	/            f("/", root)
//	|-- a        f("/a", ..)         skip a directory's children with ErrSkipDir
//	|   `-- b    f("/a/b", ..)
//	`-- c        f("/c", ..)
//
// The image is untrusted: a directory that is reached twice, a loop among them,
// is an error, so that a walk costs at most the size of the image. Memory grows
// with the number of directories. A walk belongs to one goroutine.
//
// Source: RAFS, sections 1.7 and 2.10.
package imagewalk

import (
	"context"
	"errors"
	"fmt"

	"vrafs/rafs"
)

// ErrSkipDir, returned for a directory, leaves out what is below it.
var ErrSkipDir = errors.New("skip this directory")

// ErrTwice is the class of images in which a directory is reached twice.
var ErrTwice = fmt.Errorf("%w: directory reached twice", rafs.ErrCorrupt)

// A Func is called for each name. path is absolute and raw: quote it before
// showing it. n is valid during the call only.
type Func func(path string, n *rafs.Inode) error

// Walk calls f for the inode from, which is called path, and everything below it.
// It ends with the first error; those of the image name the path.
func Walk(ctx context.Context, im *rafs.Image, from rafs.Ino, path string, f Func) error {
	w := walk{ctx: ctx, im: im, f: f, seen: map[rafs.Ino]struct{}{}}
	descend, err := w.visit(path, from)
	if !descend || err != nil {
		return err
	}
	// A stack of its own: the depth of a hostile tree must not be ours.
	for len(w.stack) > 0 {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

type walk struct {
	ctx   context.Context
	im    *rafs.Image
	f     Func
	seen  map[rafs.Ino]struct{}
	stack []frame
}

// A frame is a directory that is being listed.
type frame struct {
	path string
	list rafs.DirCursor
}

// step visits the next entry of the innermost directory.
func (w *walk) step() error {
	top := &w.stack[len(w.stack)-1]
	var d rafs.Dirent
	ok, err := top.list.Next(&d)
	if err != nil {
		return fmt.Errorf("%q: %w", top.path, err)
	}
	if !ok {
		w.stack = w.stack[:len(w.stack)-1]
		return w.ctx.Err()
	}
	if name := string(d.Name); name != "." && name != ".." {
		_, err = w.visit(Join(top.path, name), d.Ino)
	}
	return err
}

// visit calls f for one name; a directory is pushed.
func (w *walk) visit(path string, ino rafs.Ino) (bool, error) {
	n, err := w.im.Inode(ino)
	if err != nil {
		return false, fmt.Errorf("%q: %w", path, err)
	}
	if err := w.f(path, &n); err != nil {
		if err == ErrSkipDir && n.IsDir() {
			return false, nil
		}
		return false, err
	}
	if !n.IsDir() {
		return false, nil
	}
	if _, twice := w.seen[ino]; twice {
		return false, fmt.Errorf("%q: %w", path, ErrTwice)
	}
	w.seen[ino] = struct{}{}
	list, err := n.Dir(0)
	if err != nil {
		return false, fmt.Errorf("%q: %w", path, err)
	}
	w.stack = append(w.stack, frame{path, list})
	return true, nil
}

// Join adds a name to an absolute path.
func Join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
