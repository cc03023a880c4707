package build

import "vrafs/rafs"

// A contentID names the content of chunks: those of one contentID are equal.
type contentID struct {
	digest   rafs.Digest
	digester rafs.Digester
	size     uint32
}

// A chunkPlace is a chunk of a layer.
type chunkPlace struct{ layer, id uint32 }

// content names the content of a chunk of l. There is none where nothing can be told of
// it, or where its place says who may read it: encrypted blobs have keys of their own.
func (l *image) content(c *rafs.Chunk) (contentID, bool) {
	b := &l.blobs[c.Blob]
	if !c.HasDigest || c.Digest.IsZero() || b.Features&(rafs.BlobEncrypted|rafs.BlobExternal|rafs.BlobTarfs) != 0 {
		return contentID{}, false
	}
	return contentID{c.Digest, b.Digester, c.Size}, true
}

// share finds for each content that the merged tree has the lowest layer whose files
// have it: what is below is what other images share.
func (m *merger) share() {
	m.shared = map[contentID]chunkPlace{}
	_ = m.root.visit(func(n *node) error {
		l := m.images[n.in.layer]
		for _, id := range n.in.chunks {
			key, ok := l.content(&l.chunks[id].Chunk)
			if !ok {
				continue
			}
			if at, known := m.shared[key]; !known || n.in.layer < at.layer {
				m.shared[key] = chunkPlace{n.in.layer, id}
			}
		}
		return nil
	})
}

// chunk gives chunk id of a layer, or the one that takes its place, with its layer.
func (m *merger) chunk(layer, id uint32) (*image, chunk) {
	l := m.images[layer]
	if m.shared != nil {
		if key, ok := l.content(&l.chunks[id].Chunk); ok {
			at := m.shared[key]
			l, id = m.images[at.layer], at.id
		}
	}
	return l, l.chunks[id]
}
