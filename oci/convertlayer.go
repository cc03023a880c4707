package oci

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/rafs"
)

// A converted layer is a blob in the target with its bootstrap.
type convertedLayer struct {
	record
	boot   []byte
	reused bool
}

// layer converts one layer, unless a conversion of it is found.
func (c *converter) layer(ctx context.Context, im *Image, d Descriptor) (*convertedLayer, error) {
	event := Event{What: "layer", Name: d.Digest.String(), Total: d.Size, Done: d.Size}
	recipe := c.o.Recipe.layer(c.dict.id())
	if !c.o.Recipe.Encrypt {
		for _, rec := range c.known(d.Digest, recipe) {
			l, err := c.reuse(ctx, rec)
			if err != nil {
				return nil, err
			}
			if l != nil {
				event.State, event.Result, event.Size = StateReused, l.Blob.String(), l.Size
				c.progress.tell(event)
				return l, nil
			}
		}
	}
	var l *convertedLayer
	err := persist(func() (err error) {
		l, err = c.convert(ctx, im, d, recipe)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !c.o.Recipe.Encrypt {
		if err := c.records.keep(l.record, c.dst); err != nil {
			return nil, err
		}
	}
	event.State, event.Result, event.Size = StateDone, l.Blob.String(), l.Size
	c.progress.tell(event)
	return l, nil
}

// convert builds the layer while it is read and uploads it while it is built.
func (c *converter) convert(ctx context.Context, im *Image, d Descriptor, recipe string) (*convertedLayer, error) {
	rc, err := im.repo.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	up, err := c.to.upload(ctx)
	if err != nil {
		return nil, err
	}
	defer up.abort()
	in := c.progress.reading(rc, Event{What: "layer", Name: d.Digest.String(), Total: d.Size})
	in = &contextReader{ctx, in}
	typ := build.TypeTar
	if c.o.Recipe.Ref {
		typ = build.TypeTarRef
	}
	var boot bytes.Buffer
	o := c.o.Recipe.options(c.dict.image())
	r, err := build.Build(ctx, build.Stream(typ, in, "tar"), build.Sink{BlobWriter: up, BootstrapWriter: &boot}, o)
	if err != nil {
		return nil, err
	}
	// What stands behind the end of the tar counts for the digest too.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	l := &convertedLayer{record: record{Source: d.Digest, Recipe: recipe, Size: int64(r.BlobSize), Boot: digest.FromBytes(boot.Bytes())}, boot: boot.Bytes()}
	l.Blob = digest.NewDigestFromBytes(digest.SHA256, r.BlobDigest[:])
	if r.TOCDigest != (rafs.Digest{}) {
		l.TOC = digest.NewDigestFromBytes(digest.SHA256, r.TOCDigest[:])
	}
	return l, up.commit(ctx, l.Blob, l.Size)
}

// known lists conversions of the layer: the records', and those of images that are
// named as caches.
func (c *converter) known(source digest.Digest, recipe string) []*record {
	var list []*record
	if rec, ok := c.records.find(source, recipe); ok {
		list = append(list, rec)
	}
	return append(list, c.caches[cacheKey{source, recipe}]...)
}

// reuse brings a conversion into the target if it is there or near, and reads its
// bootstrap. What turns out to be gone or damaged is nil.
func (c *converter) reuse(ctx context.Context, rec *record) (*convertedLayer, error) {
	d := Descriptor{MediaType: MediaTypeNydusBlob, Digest: rec.Blob, Size: rec.Size}
	there, err := c.bring(ctx, d, rec)
	if err != nil || !there {
		return nil, err
	}
	b, err := bootload.Extract(&storeReader{ctx, c.to, d}, uint64(d.Size), rec.Blob.Encoded())
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, nil // it is converted again, which says what is wrong
	}
	defer b.Close()
	l := &convertedLayer{record: *rec, boot: bytes.Clone(b.Bytes()), reused: true}
	if got := digest.FromBytes(l.boot); rec.Boot == "" {
		l.Boot = got
	} else if got != rec.Boot {
		return nil, nil
	}
	return l, c.records.keep(l.record, c.dst)
}

// bring makes sure that the target has a blob that somebody remembers.
func (c *converter) bring(ctx context.Context, d Descriptor, rec *record) (bool, error) {
	there, err := c.to.has(ctx, d)
	if there || err != nil {
		return there, err
	}
	for _, place := range rec.Places {
		from, err := parseRegistry(place)
		if err != nil {
			continue
		}
		if ok, err := c.to.mount(ctx, d, from); ok || err != nil {
			return ok, err
		}
	}
	for _, im := range c.cacheImages {
		if _, ok := im.find(d.Digest); !ok {
			continue
		}
		if _, err := transfer(ctx, im.repo, c.to, d, c.progress); !errors.Is(err, ErrNotFound) {
			return err == nil, err
		}
	}
	return false, nil
}

// A storeReader reads a blob of a store by ranges, for what wants an io.ReaderAt.
type storeReader struct {
	ctx   context.Context
	store store
	d     Descriptor
}

// ReadAt reads a range with one request.
func (s *storeReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.d.Size {
		return 0, io.EOF
	}
	end := s.d.Size
	if int64(len(p)) < end-off {
		end = off + int64(len(p))
	}
	rc, err := s.store.blob(s.ctx, s.d, off, end)
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	n, err := io.ReadFull(rc, p[:end-off])
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// merged puts the layers on each other. blobs are the ids that the result refers to.
func (c *converter) merged(ctx context.Context, layers []*convertedLayer) (boot []byte, blobs []string, err error) {
	var out bytes.Buffer
	sink := build.Sink{BootstrapWriter: &out}
	if len(layers) == 0 {
		o := c.o.Recipe.options(nil)
		o.InlineMeta, o.BlobTOC = false, false
		_, err := build.Build(ctx, build.Stream(build.TypeTar, bytes.NewReader(make([]byte, 2*tarBlock)), "no layers"), sink, o)
		return out.Bytes(), nil, err
	}
	list := make([]build.Layer, len(layers))
	for i, l := range layers {
		list[i].Image = build.Image{Name: l.Blob.Encoded(), Data: l.boot}
		if c.o.Recipe.Ref {
			list[i].Name = l.Source.Encoded()
			list[i].BlobDigest, list[i].BlobSize = l.Blob.Encoded(), uint64(l.Size)
			if l.TOC != "" {
				list[i].TOCDigest = l.TOC.Encoded()
			}
		}
	}
	r, err := build.Merge(ctx, list, sink, build.MergeOptions{
		Prefetch:  build.Prefetch{Policy: build.PrefetchFS, Patterns: c.o.Recipe.Prefetch},
		ChunkDict: c.dict.image(), ShareChunks: !c.o.Recipe.Ref,
	})
	if err != nil {
		return nil, nil, err
	}
	return out.Bytes(), r.Blobs, nil
}
