package build

import (
	"fmt"
	"slices"
)

// commit gives the outputs their names. The bootstrap comes last: who sees it
// finds the blob.
func (b *builder) commit(s *sections) error {
	id := b.blobID()
	wrote := b.own.table >= 0 && b.blob.size > 0 || b.o.InlineMeta
	if b.cache != nil {
		if b.own.table < 0 {
			b.cache.abort()
		} else if err := b.cache.commit(id, b.blobs[b.own.table].UncompressedSize, s.array, s.header); err != nil {
			return err
		}
	}
	if b.blob.out != nil {
		if !wrote && b.blob.out.rename {
			b.blob.out.abort()
		} else if err := b.blob.out.commit(id); err != nil {
			return fmt.Errorf("write blob: %w", err)
		} else {
			b.res.BlobPath = b.blob.out.path
		}
	}
	if wrote {
		b.res.BlobID, b.res.BlobSize, b.res.BlobDigest = id, b.blob.size, b.blob.fileDigest()
	}
	if b.o.InlineMeta && b.sink.BootstrapWriter != nil {
		if _, err := b.sink.BootstrapWriter.Write(s.bootstrap); err != nil {
			return fmt.Errorf("write bootstrap: %w", err)
		}
	}
	if !b.o.InlineMeta {
		path, err := writeBootstrap(&b.sink, s.bootstrap)
		if err != nil {
			return err
		}
		b.res.Bootstrap = path
	}
	b.res.Version, b.res.Compressor, b.res.Inodes = b.o.Version, b.o.Compressor, uint64(s.m.num.names)
	b.nameBlobs(id)
	return nil
}

// nameBlobs lists the ids of the blob table, the new blob's being id.
func (b *builder) nameBlobs(id string) {
	for i := range b.blobs {
		name := b.blobs[i].ID
		if i == b.own.table && !b.src.ref() {
			name = id
		}
		if !slices.Contains(b.res.Blobs, name) {
			b.res.Blobs = append(b.res.Blobs, name)
		}
	}
}
