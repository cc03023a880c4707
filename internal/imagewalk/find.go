package imagewalk

import (
	"errors"
	"fmt"
	"strings"

	"vrafs/rafs"
)

// Find looks a path up from the root, without following symlinks. Missing names
// are of class rafs.ErrNotExist.
func Find(im *rafs.Image, path string) (rafs.Inode, error) {
	n, err := im.Inode(im.Root())
	for rest := strings.Trim(path, "/"); err == nil && rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		rest = strings.TrimLeft(rest, "/")
		n, err = child(im, &n, name)
	}
	if err != nil {
		return rafs.Inode{}, fmt.Errorf("%q: %w", path, err)
	}
	return n, nil
}

// ErrLinks is the class of paths that lead through more symlinks than Linux follows,
// or to a target longer than it takes.
var ErrLinks = errors.New("too many levels of symbolic links")

// What Linux allows a path: MAXSYMLINKS, and PATH_MAX.
const (
	maxLinks  = 40
	maxTarget = 4096
)

// Follow looks a path up as a process in the image would whose root is the image's:
// symlinks are followed, the last one too, absolute ones from the image's root, and
// ".." of the root is the root. It takes at most 40 symlinks. Missing names are of
// class rafs.ErrNotExist.
func Follow(im *rafs.Image, path string) (rafs.Inode, error) {
	n, err := follow(im, path)
	if err != nil {
		return rafs.Inode{}, fmt.Errorf("%q: %w", path, err)
	}
	return n, nil
}

func follow(im *rafs.Image, rest string) (rafs.Inode, error) {
	at, err := im.Inode(im.Root()) // the directory in which rest begins
	for links := 0; err == nil; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if name == "" {
			return at, nil
		}
		var next rafs.Inode
		if next, err = child(im, &at, name); err != nil {
			break
		}
		if !next.IsSymlink() {
			at = next
			continue
		}
		var target []byte
		if target, err = next.Symlink(); err != nil {
			break
		}
		if links++; links > maxLinks || len(target) > maxTarget {
			return at, ErrLinks
		}
		if len(target) > 0 && target[0] == '/' {
			at, err = im.Inode(im.Root())
		}
		rest = string(target) + "/" + rest
	}
	return at, err
}

// child is the inode of a name in a directory.
func child(im *rafs.Image, dir *rafs.Inode, name string) (rafs.Inode, error) {
	ino, err := dir.Lookup([]byte(name))
	if err != nil {
		return rafs.Inode{}, err
	}
	return im.Inode(ino)
}
