package build

import (
	"context"
	"fmt"
	"time"

	"vrafs/internal/chunkread"
	"vrafs/rafs"
)

// A PrefetchFile names a file, or ranges of it, that Optimize copies.
type PrefetchFile struct {
	Path   string
	Ranges [][2]uint64 // offset, size; nil: the whole file
}

// Optimize copies the data of files into one more blob in sink.BlobDir, the last
// of the blob table, and writes a bootstrap in which those files and their hard
// links refer to it (rafs.md 6.7). Other files keep the old copies. Paths that are
// not there are of class ErrSource.
func Optimize(ctx context.Context, im Image, files []PrefetchFile, sink Sink) (*Result, error) {
	start := time.Now()
	src, m, err := openImage(ctx, &im, loadOptions{})
	if err != nil {
		return nil, err
	}
	p := &optimizer{m: m, copies: map[uint32]uint32{}}
	for _, f := range files {
		if err := p.file(&f); err != nil {
			return nil, err
		}
	}
	var size uint64
	if len(p.ids) > 0 {
		r := chunkread.New(src, im.Blobs, chunkread.Options{})
		defer r.Close()
		if size, err = p.store(ctx, r, src, sink.BlobDir); err != nil {
			return nil, err
		}
	}
	res, err := finishImage(ctx, m, &sink, start)
	if err == nil && len(p.ids) > 0 {
		res.BlobID, res.BlobSize = m.blobs[len(m.blobs)-1].ID, size
	}
	return res, err
}

type optimizer struct {
	m      *image
	copies map[uint32]uint32 // number of a chunk -> of its copy
	ids    []uint32          // copies, in the order of the list
}

// file gives the chunks of one file copies, which still are where the originals are.
func (p *optimizer) file(f *PrefetchFile) error {
	n := p.m.root.lookup(f.Path)
	switch {
	case n == nil:
		return fmt.Errorf("%w: %q is not in the image", ErrSource, f.Path)
	case !n.in.isReg():
		return fmt.Errorf("%w: %q is not a regular file", ErrSource, f.Path)
	}
	for k, id := range n.in.chunks {
		c := p.m.chunks[id]
		if !f.wants(uint64(k)*uint64(p.m.chunkSize), uint64(c.Size)) {
			continue
		}
		if !movable(&p.m.blobs[c.Blob]) {
			return fmt.Errorf("%w: %q: its data can't be copied out of an encrypted, external or tarfs blob", rafs.ErrUnsupported, f.Path)
		}
		to, ok := p.copies[id]
		if !ok {
			to = uint32(len(p.m.chunks))
			p.m.chunks = append(p.m.chunks, c)
			p.copies[id], p.copies[to] = to, to
			p.ids = append(p.ids, to)
		}
		n.in.chunks[k] = to
	}
	return nil
}

// wants reports whether size bytes at off are in one of the ranges.
func (f *PrefetchFile) wants(off, size uint64) bool {
	if f.Ranges == nil {
		return true
	}
	for _, r := range f.Ranges {
		if r[0] < off+size && (r[0] >= off || r[1] > off-r[0]) && r[1] > 0 {
			return true
		}
	}
	return false
}

// store writes the new blob and puts it into the table. It returns its size.
func (p *optimizer) store(ctx context.Context, r *chunkread.Reader, src *rafs.Image, dir string) (uint64, error) {
	like := &p.m.blobs[p.m.chunks[p.ids[0]].Blob]
	for _, id := range p.ids {
		if b := &p.m.blobs[p.m.chunks[id].Blob]; b.Digester != like.Digester {
			return 0, fmt.Errorf("%w: blobs %s and %s have different digesters", rafs.ErrUnsupported, like.ID, b.ID)
		}
	}
	out, err := newBlobCopy(p.m, dir, len(p.m.blobs), like, rafs.BlobSeparatedPrefetch)
	if err != nil {
		return 0, err
	}
	if err := out.copy(ctx, r, src, p.ids); err != nil {
		out.b.blob.abort()
		return 0, err
	}
	e, err := out.close()
	p.m.blobs = append(p.m.blobs, e)
	return out.b.blob.size, err
}
