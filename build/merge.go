package build

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"vrafs/rafs"
)

// A Layer is one source of Merge, with what the registry says about its blob.
// Digests are 64 hex digits, with or without "sha256:" before.
type Layer struct {
	Image
	BlobDigest     string // --blob-digests
	OriginalBlobID string // --original-blob-ids
	BlobSize       uint64 // --blob-sizes, 0 if unknown
	TOCDigest      string // --blob-toc-digests
	TOCSize        uint64 // --blob-toc-sizes, 0 if unknown
}

// MergeOptions are the options of Merge.
type MergeOptions struct {
	Whiteout  WhiteoutSpec
	Prefetch  Prefetch
	Parent    *Image
	ChunkDict *Image
	// HaveBackend says that a storage back end is configured, so that blob ids in
	// the sources are true ids and not placeholders (rafs.md 6.6).
	HaveBackend bool
	// ShareChunks lets files of upper layers refer to equal chunks of lower ones, so that
	// nobody fetches or keeps them twice. The blobs stay as they are.
	ShareChunks bool
}

// Merge overlays layers, lowest first, into one bootstrap in sink.Bootstrap (or
// its writer). Blobs nothing refers to any more are dropped; those of the chunk
// dictionary come first, the others in the order of first use. Layers that do not
// fit together are of class ErrInconsistent.
func Merge(ctx context.Context, layers []Layer, sink Sink, o MergeOptions) (*Result, error) {
	start := time.Now()
	m := &merger{o: o, ids: map[string]int{}}
	if err := m.load(ctx, layers); err != nil {
		return nil, err
	}
	if err := m.overlay(); err != nil {
		return nil, err
	}
	out, err := m.image()
	if err != nil {
		return nil, err
	}
	return finishImage(ctx, out, &sink, start)
}

// finishImage encodes an image, checks and stores it, apart from any blob.
func finishImage(ctx context.Context, m *image, sink *Sink, start time.Time) (*Result, error) {
	detachAll(m.blobs)
	data, err := m.encode()
	if err != nil {
		return nil, err
	}
	if err := checkResult(ctx, data); err != nil {
		return nil, err
	}
	r := &Result{Version: m.version, Compressor: m.flags.Compressor(), Inodes: uint64(m.num.names)}
	for i := range m.blobs {
		r.Blobs = append(r.Blobs, m.blobs[i].ID)
	}
	if r.Bootstrap, err = writeBootstrap(sink, data); err != nil {
		return nil, err
	}
	r.Stages = append(r.Stages, Stage{"total_build", time.Since(start)})
	return r, nil
}

// detachAll makes blob entries of one bootstrap good for another.
func detachAll(blobs []rafs.Blob) {
	for i := range blobs {
		detach(&blobs[i])
	}
}

// detach makes the entry of a blob with an inlined bootstrap good for a bootstrap
// of its own, which is not named after the blob (rafs.md 4.10).
func detach(b *rafs.Blob) {
	if !b.Features.Has(rafs.BlobInlinedFSMeta) {
		return
	}
	b.Features &^= rafs.BlobInlinedFSMeta
	if b.Features.Has(rafs.BlobSeparate) && b.MetaDigest.IsZero() {
		if d, err := parseDigest(b.MetaID); err == nil {
			b.MetaDigest = d
		}
	}
}

// A merger holds the state of one Merge.
type merger struct {
	o      MergeOptions
	dict   map[string]rafs.Blob // blobs of the dictionary by id
	images []*image             // the parent, if there is one, then the layers
	root   *node
	ids    map[string]int // places in blobs
	blobs  []rafs.Blob
	shared map[contentID]chunkPlace // with ShareChunks
}

func (m *merger) load(ctx context.Context, layers []Layer) error {
	m.dict = map[string]rafs.Blob{}
	if m.o.ChunkDict != nil {
		d, err := loadDict(ctx, m.o.ChunkDict)
		if err != nil {
			return fmt.Errorf("chunk dictionary: %w", err)
		}
		for i := range d.blobs {
			m.dict[d.blobs[i].ID] = d.blobs[i]
		}
	}
	if m.o.Parent != nil {
		p, err := loadImage(ctx, m.o.Parent, 0)
		if err != nil {
			return fmt.Errorf("parent: %w", err)
		}
		m.images = append(m.images, p)
	}
	for i := range layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		l, err := loadImage(ctx, &layers[i].Image, uint32(len(m.images)))
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		if err := m.nameBlob(l, &layers[i]); err != nil {
			return fmt.Errorf("layer %d (%s): %w", i+1, layers[i].Name, err)
		}
		m.images = append(m.images, l)
	}
	if len(layers) == 0 {
		return fmt.Errorf("%w: no layers", ErrOptions)
	}
	return consistent(m.images)
}

// consistent compares what all images of a merge must share.
func consistent(images []*image) error {
	const explicit = rafs.FlagExplicitUIDGID
	a := images[0]
	compressed := a // the v5 image that decided the compressor: the first with data
	for i, b := range images[1:] {
		why := ""
		if len(compressed.blobs) == 0 {
			compressed = b
		}
		switch {
		case a.version != b.version:
			why = fmt.Sprintf("version %d and %d", a.version, b.version)
		case a.chunkSize != b.chunkSize:
			why = fmt.Sprintf("chunk size %#x and %#x", a.chunkSize, b.chunkSize)
		case a.flags&explicit != b.flags&explicit:
			why = "explicit owners in one and not in the other"
		case a.tarfs() != b.tarfs():
			why = "tarfs mode in one and not in the other"
		case a.version == rafs.V5 && a.digester != b.digester:
			why = fmt.Sprintf("digester %v and %v", a.digester, b.digester)
		case a.version == rafs.V5 && len(b.blobs) > 0 && compressed.flags.Compressor() != b.flags.Compressor():
			why = fmt.Sprintf("compressor %v and %v", compressed.flags.Compressor(), b.flags.Compressor())
		}
		if why != "" {
			return fmt.Errorf("%w: sources 1 and %d: %s", ErrInconsistent, i+2, why)
		}
	}
	return nil
}

// nameBlob gives the layer's own blob the id and sizes that the registry knows it
// by (rafs.md 6.6, rule 2).
func (m *merger) nameBlob(l *image, opt *Layer) error {
	own := -1
	for i := range l.blobs {
		if _, ok := m.dict[l.blobs[i].ID]; ok {
			continue
		}
		if own >= 0 {
			return fmt.Errorf("%w: blobs %s and %s are both not in the chunk dictionary, a layer may have one such blob", ErrSource, l.blobs[own].ID, l.blobs[i].ID)
		}
		own = i
	}
	if own < 0 {
		return nil
	}
	b := &l.blobs[own]
	if opt.OriginalBlobID != "" && !m.o.HaveBackend && !l.tarfs() {
		b.ID = opt.OriginalBlobID
	}
	if err := setRegistry(b, opt); err != nil {
		return err
	}
	if b.ID == "" || b.ID == rafs.PlaceholderBlobID {
		return fmt.Errorf("%w: the id of its blob is not known: name the file after it or give --blob-digests", ErrSource)
	}
	return nil
}

// setRegistry applies the lists of merge to a blob, or to the file with its
// metadata if that is another.
func setRegistry(b *rafs.Blob, opt *Layer) error {
	separate := b.Features.Has(rafs.BlobSeparate)
	if opt.BlobDigest != "" {
		id := strings.TrimPrefix(opt.BlobDigest, "sha256:")
		d, err := parseDigest(id)
		if err != nil {
			return fmt.Errorf("blob digest: %w", err)
		}
		if separate {
			b.MetaDigest = d
		} else {
			b.ID = id
		}
	}
	if opt.BlobSize != 0 {
		if separate {
			b.MetaFileSize = opt.BlobSize
		} else {
			b.CompressedSize = opt.BlobSize
		}
	}
	if opt.TOCDigest != "" {
		d, err := parseDigest(strings.TrimPrefix(opt.TOCDigest, "sha256:"))
		if err != nil {
			return fmt.Errorf("ToC digest: %w", err)
		}
		b.TOCDigest = d
	}
	if n := opt.TOCSize; n != 0 {
		if n < rafs.TOCMinSize || n > rafs.TOCMaxSize || n%rafs.TOCEntrySize != 0 {
			return fmt.Errorf("%w: ToC of %d bytes", ErrOptions, n)
		}
		b.TOCSize = uint32(n)
	}
	return nil
}

func parseDigest(s string) (rafs.Digest, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != rafs.DigestSize {
		return rafs.Digest{}, fmt.Errorf("%w: %.80q is not 64 hex digits", ErrOptions, s)
	}
	return rafs.Digest(b), nil
}

// overlay stacks the trees.
func (m *merger) overlay() error {
	for i, l := range m.images {
		if i == 0 && m.o.Parent != nil {
			m.root = l.root
			continue
		}
		unmarkLayer(l.root)
		if err := stackLayer(m.root, l.root, m.o.Whiteout, l.version); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		m.root = l.root
	}
	return nil
}

// image collects what the merged tree refers to.
func (m *merger) image() (*image, error) {
	last := m.images[len(m.images)-1]
	const cipher = rafs.FlagEncryptionNone | rafs.FlagEncryptionXTS
	out := &image{version: last.version, chunkSize: last.chunkSize, digester: last.digester, root: m.root, mixed: true}
	out.flags = last.flags & (rafs.FlagsCompression | rafs.FlagsHash | rafs.FlagExplicitUIDGID | rafs.FlagTarfs | cipher)
	for _, l := range m.images {
		if l.flags&rafs.FlagEncryptionXTS != 0 {
			out.flags = out.flags&^cipher | rafs.FlagEncryptionXTS
		}
		if l.version == rafs.V5 && len(l.blobs) > 0 {
			out.flags = out.flags&^rafs.FlagsCompression | rafs.CompressorFlag(l.flags.Compressor())
		}
	}
	if m.o.ShareChunks {
		m.share()
	}
	if err := m.adoptBlobs(); err != nil {
		return nil, err
	}
	out.blobs = m.blobs
	if err := m.adoptChunks(out); err != nil {
		return nil, err
	}
	out.prefetch = prefetchNodes(m.root, m.o.Prefetch)
	return out, nil
}

// adoptChunks fills the chunk list with the chunks that the tree uses, and gives
// the files their new numbers.
func (m *merger) adoptChunks(out *image) error {
	byID := map[chunkID]uint32{}
	seen := map[*inode]bool{}
	return m.root.visit(func(n *node) error {
		if len(n.in.chunks) == 0 || seen[n.in] {
			return nil
		}
		seen[n.in] = true
		for k, id := range n.in.chunks {
			l, c := m.chunk(n.in.layer, id)
			c.Blob = uint16(m.ids[l.blobs[c.Blob].ID])
			key := out.id(&c.Chunk)
			to, ok := byID[key]
			if !ok {
				to = uint32(len(out.chunks))
				out.chunks = append(out.chunks, c)
				byID[key] = to
			}
			if err := out.sameChunk(&out.blobs[c.Blob], &out.chunks[to].Chunk, &c.Chunk); err != nil {
				return fmt.Errorf("%q: %w", n.path(), err)
			}
			n.in.chunks[k] = to
		}
		return nil
	})
}

// adoptBlobs fills the blob table with the blobs that the tree uses.
func (m *merger) adoptBlobs() error {
	var dict, own []rafs.Blob
	known := map[string]*rafs.Blob{}
	err := m.root.visit(func(n *node) error {
		for _, id := range n.in.chunks {
			l, c := m.chunk(n.in.layer, id)
			b := &l.blobs[c.Blob]
			if first := known[b.ID]; first != nil {
				if err := sameBlob(first, b); err != nil {
					return err
				}
				continue
			}
			known[b.ID] = b
			if _, ok := m.dict[b.ID]; ok {
				dict = append(dict, *b)
			} else {
				own = append(own, *b)
			}
		}
		return nil
	})
	m.blobs = append(dict, own...)
	for i := range m.blobs {
		m.blobs[i].Index = i
		m.ids[m.blobs[i].ID] = i
	}
	return err
}
