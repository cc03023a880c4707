package testoci

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"time"
)

// A tarball is a layer being written. The first error is kept for finish.
type tarball struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func newTarball() *tarball {
	b := &tarball{}
	b.w = tar.NewWriter(&b.buf)
	return b
}

// A change makes an entry something other than usual.
type change func(h *tar.Header)

func (b *tarball) add(h tar.Header, data string, changes ...change) {
	h.Format, h.Size = tar.FormatPAX, int64(len(data))
	h.ModTime = time.Unix(1_700_000_000, 0)
	for _, c := range changes {
		c(&h)
	}
	if b.err == nil {
		b.err = b.w.WriteHeader(&h)
	}
	if b.err == nil {
		_, b.err = b.w.Write([]byte(data))
	}
}

func (b *tarball) finish() ([]byte, error) {
	err := errors.Join(b.err, b.w.Close())
	return b.buf.Bytes(), err
}

func (b *tarball) dir(name string, changes ...change) {
	b.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, "", changes...)
}

// file adds a regular file with its own name as the content.
func (b *tarball) file(name string, changes ...change) { b.text(name, name+"\n", changes...) }

func (b *tarball) text(name, data string, changes ...change) {
	b.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, data, changes...)
}

func (b *tarball) symlink(name, target string, changes ...change) {
	b.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "", changes...)
}

func (b *tarball) link(name, target string, changes ...change) {
	b.add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, "", changes...)
}

func (b *tarball) fifo(name string, changes ...change) {
	b.add(tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o640}, "", changes...)
}

func (b *tarball) device(name string, kind byte, major, minor int64, changes ...change) {
	b.add(tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor}, "", changes...)
}

// whiteout removes name, which lower layers may have.
func (b *tarball) whiteout(name string) {
	dir, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i+1], name[i+1:]
	}
	b.text(dir+".wh."+base, "")
}

// opaque hides what lower layers have in the directory name.
func (b *tarball) opaque(name string) { b.text(name+"/.wh..wh..opq", "") }

func mode(m int64) change { return func(h *tar.Header) { h.Mode = m } }

func owner(uid, gid int) change { return func(h *tar.Header) { h.Uid, h.Gid = uid, gid } }

func at(sec, nsec int64) change { return func(h *tar.Header) { h.ModTime = time.Unix(sec, nsec) } }

func xattr(name, value string) change {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
}
