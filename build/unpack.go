package build

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"vrafs/internal/chunkread"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// UnpackOptions are the options of Unpack.
type UnpackOptions struct {
	Workers  int // 0: one per processor
	Progress Progress
	// AllowUnverified names blobs by id that may be read although the image has no
	// digests for them.
	AllowUnverified []string
	// Skipped, if set, is told the path of each socket: a tar has no such entry.
	Skipped func(path string)
}

// Unpack writes the image as a tar to w, which may be a FIFO: a directory before
// its children, a hard link after the name it links to. Whiteouts of overlayfs
// become those of OCI. An image without file data needs no blobs. Errors are of
// class rafs.ErrCorrupt, chunkread.ErrDigest or ErrUnverified where the image is at
// fault.
func Unpack(ctx context.Context, im Image, w io.Writer, o UnpackOptions) error {
	img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	if err != nil {
		return err
	}
	r := chunkread.New(img, im.Blobs, chunkread.Options{AllowUnverified: o.AllowUnverified})
	defer r.Close()
	buf := bufio.NewWriterSize(w, 1<<20)
	u := &unpacker{ctx: ctx, im: img, o: o, tar: newTarWriter(buf), links: map[rafs.Ino]string{}}
	if err := r.Stream(ctx, o.Workers, u.items(), u.emit); err != nil {
		return err
	}
	if err := u.tar.close(); err != nil {
		return err
	}
	return buf.Flush()
}

type unpacker struct {
	ctx   context.Context
	im    *rafs.Image
	o     UnpackOptions
	tar   *tarWriter
	links map[rafs.Ino]string  // first name of inodes with several
	early map[string]*tarEntry // hard links that were written before everything else
	done  uint64
}

// emit writes a header or a piece of data; items come in order.
func (u *unpacker) emit(p chunkread.Piece) error {
	if e, ok := p.Tag.(*tarEntry); ok {
		return u.tar.header(e)
	}
	u.done += uint64(len(p.Data))
	if u.o.Progress != nil {
		u.o.Progress(u.done, 0, "unpacked")
	}
	_, err := u.tar.Write(p.Data)
	return err
}

// items gives the headers and chunks of the whole tree in the order of the tar.
func (u *unpacker) items() iter.Seq2[chunkread.Item, error] {
	return func(yield func(chunkread.Item, error) bool) {
		goOn, err := u.yieldEarly(yield)
		if err != nil {
			yield(chunkread.Item{}, err)
		}
		if !goOn {
			return
		}
		stop := false
		err = imagewalk.Walk(u.ctx, u.im, u.im.Root(), "/", func(p string, n *rafs.Inode) error {
			if u.early[p] != nil {
				return nil
			}
			entries, data, err := u.entries(p, n)
			if err != nil {
				return fmt.Errorf("%q: %w", p, err)
			}
			for _, e := range entries {
				if stop = !yield(chunkread.Item{Tag: e}, nil); stop {
					return context.Canceled
				}
			}
			if !data {
				return nil
			}
			for item, err := range chunkread.FileChunks(u.im, n) {
				if err != nil {
					return fmt.Errorf("%q: %w", p, err)
				}
				if stop = !yield(item, nil); stop {
					return context.Canceled
				}
			}
			return nil
		})
		if err != nil && !stop {
			yield(chunkread.Item{}, err)
		}
	}
}

// entries gives the headers for one name and whether the file's data follows.
func (u *unpacker) entries(p string, n *rafs.Inode) ([]*tarEntry, bool, error) {
	a := n.Attr()
	e := &tarEntry{
		name: strings.TrimPrefix(p, "/"), typ: tarType(a.Mode), mode: a.Mode & 0o7777,
		uid: a.UID, gid: a.GID, mtime: a.Mtime, nsec: a.MtimeNsec,
	}
	if e.typ == 0 {
		if u.o.Skipped != nil {
			u.o.Skipped(p)
		}
		return nil, false, nil
	}
	if e.typ == tarChar && a.Rdev == 0 {
		e.name, e.typ = path.Join(path.Dir(e.name), whiteoutPrefix+path.Base(e.name)), tarReg
		return []*tarEntry{e}, false, nil
	}
	if a.Nlink > 1 && !n.IsDir() {
		if first, ok := u.links[n.Ino()]; ok {
			e.typ, e.link = tarLink, first
			return []*tarEntry{e}, false, nil
		}
		u.links[n.Ino()] = e.name
	}
	var err error
	if e.xattrs, err = readXattrs(n); err != nil {
		return nil, false, err
	}
	if target, implied := openLayer(e, n); implied {
		return nil, false, nil
	} else if target != "" {
		e.typ, e.link, e.xattrs = tarLink, target, nil
		return []*tarEntry{e}, false, nil
	}
	switch e.typ {
	case tarDir:
		return u.dirEntries(e), false, nil
	case tarSymlink:
		target, err := n.Symlink()
		e.link = string(target)
		return []*tarEntry{e}, false, err
	case tarChar, tarBlock:
		e.major, e.minor = unix.Major(uint64(a.Rdev)), unix.Minor(uint64(a.Rdev))
	case tarReg:
		e.size = a.Size
	}
	return []*tarEntry{e}, e.typ == tarReg, nil
}

// dirEntries gives a directory's header and, if it is opaque, the marker. The root
// appears only if it differs from what every unpacker makes anyway.
func (u *unpacker) dirEntries(e *tarEntry) []*tarEntry {
	out := []*tarEntry{e}
	var opaque *tarEntry
	for i, x := range e.xattrs {
		if x.name == xattrOverlayOpaque && string(x.value) == "y" {
			e.xattrs = append(e.xattrs[:i:i], e.xattrs[i+1:]...)
			opaque = &tarEntry{name: path.Join(e.name, whiteoutOpaque), typ: tarReg, mode: 0o644, uid: e.uid, gid: e.gid, mtime: e.mtime}
			break
		}
	}
	if e.name != "" {
		e.name += "/"
	} else if e.name = "./"; e.mode == 0o755 && e.uid == 0 && e.gid == 0 && e.mtime == 0 && len(e.xattrs) == 0 {
		out = nil
	}
	if opaque != nil {
		out = append(out, opaque)
	}
	return out
}

// tarType gives the entry type for a mode, 0 for sockets.
func tarType(mode uint32) byte {
	switch mode & rafs.ModeType {
	case rafs.ModeRegular:
		return tarReg
	case rafs.ModeDir:
		return tarDir
	case rafs.ModeSymlink:
		return tarSymlink
	case rafs.ModeChar:
		return tarChar
	case rafs.ModeBlock:
		return tarBlock
	case rafs.ModeFIFO:
		return tarFifo
	}
	return 0
}
