package build

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// A builder holds the state of one Build.
type builder struct {
	src  Source
	sink Sink
	o    Options

	blobs  []rafs.Blob
	set    *chunkSet
	own    *blobOut // the blob this build writes
	blob   *blobWriter
	cache  *cacheWriter
	xts    *codec.XTS
	parent *image
	root   *node

	archive archive // if the data stays in one
	limits  tarLimits
	res     Result
}

// Build makes one image or one layer. It reads src once, writes to sink and
// returns when everything is written. Outputs in files of a failed build are
// removed, except special files. Errors are of class ErrOptions, ErrSource,
// ErrInconsistent or rafs.ErrCorrupt where they are not the system's.
func Build(ctx context.Context, src Source, sink Sink, o Options) (*Result, error) {
	b, err := newBuilder(src, sink, o)
	if err != nil {
		return nil, err
	}
	if err := b.run(ctx); err != nil {
		b.blob.abort()
		b.cache.abort()
		return nil, err
	}
	return &b.res, nil
}

func newBuilder(src Source, sink Sink, o Options) (*builder, error) {
	if err := o.normalize(&src, &sink); err != nil {
		return nil, err
	}
	own := &blobOut{table: -1, off: o.BlobOffset, align: o.AlignedChunk || o.Version == rafs.V6}
	return &builder{src: src, sink: sink, o: o, set: newChunkSet(), own: own, limits: defaultTarLimits}, nil
}

func (b *builder) run(ctx context.Context) error {
	start := time.Now()
	if err := b.loadInputs(ctx); err != nil {
		return err
	}
	if err := b.openOutputs(); err != nil {
		return err
	}
	t := time.Now()
	if err := b.dump(ctx); err != nil {
		return err
	}
	b.stage("dump_blob", t)
	t = time.Now()
	if err := b.finish(ctx); err != nil {
		return err
	}
	b.stage("dump_bootstrap", t)
	b.stage("total_build", start)
	return nil
}

// stage notes how long a part of the work took, by the name it has in the trace
// that nydus-image prints.
func (b *builder) stage(name string, since time.Time) {
	b.res.Stages = append(b.res.Stages, Stage{name, time.Since(since)})
}

// loadInputs reads the parent and the chunk dictionary.
func (b *builder) loadInputs(ctx context.Context) error {
	if b.o.Parent != nil {
		m, err := b.loadBase(ctx, "parent", b.o.Parent, loadOptions{})
		if err != nil {
			return err
		}
		b.parent, b.blobs, b.set.adopted = m, m.blobs, m.byID
		for i := range m.chunks {
			b.set.adopt(m.chunks[i], m.blobs[m.chunks[i].Blob].Digester == b.o.Digester)
		}
	}
	if b.o.ChunkDict != nil {
		defer b.stage("load_chunk_dict", time.Now())
		m, err := b.loadBase(ctx, "chunk dictionary", b.o.ChunkDict, loadOptions{dict: true})
		if err != nil {
			return err
		}
		b.set.useDict(m, b.o.Digester, b.dictChunk(m))
	}
	return nil
}

// loadBase reads an image that this build goes on from.
func (b *builder) loadBase(ctx context.Context, what string, im *Image, o loadOptions) (*image, error) {
	_, m, err := openImage(ctx, im, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	// Readers take a blob that has this feature for the one the bootstrap is in.
	for i := range m.blobs {
		m.blobs[i].Features &^= rafs.BlobInlinedFSMeta
	}
	return m, b.o.compatible(m, what+" "+im.Name)
}

// dictChunk makes a chunk of the dictionary one of the new image.
func (b *builder) dictChunk(dict *image) func(rafs.Chunk) (rafs.Chunk, error) {
	return func(c rafs.Chunk) (rafs.Chunk, error) {
		t, err := b.dictBlob(&dict.blobs[c.Blob])
		if err != nil {
			return c, err
		}
		c.Blob = uint16(t)
		if b.parent == nil || t >= len(b.parent.blobs) {
			return c, nil
		}
		have := &c
		if id, ok := b.parent.byID[b.parent.id(&c)]; ok {
			have = &b.parent.chunks[id].Chunk
		}
		return c, b.parent.sameChunk(&b.blobs[t], have, &c)
	}
}

// dictBlob gives the place of a dictionary's blob in the blob table, where it is
// put at its first use.
func (b *builder) dictBlob(e *rafs.Blob) (int, error) {
	for t := range b.blobs {
		if b.blobs[t].ID == e.ID && t != b.own.table {
			return t, sameBlob(&b.blobs[t], e)
		}
	}
	return b.addBlob(*e)
}

func (b *builder) addBlob(e rafs.Blob) (int, error) {
	if limit := maxBlobs(b.o.Version); len(b.blobs) >= limit {
		return 0, fmt.Errorf("%w: more than %d blobs", ErrInconsistent, limit)
	}
	e.Index = len(b.blobs)
	b.blobs = append(b.blobs, e)
	return e.Index, nil
}

// ownBlob puts the new blob into the table.
func (b *builder) ownBlob() (int, error) {
	return b.addBlob(rafs.Blob{
		ChunkSize: b.o.ChunkSize, Compressor: b.o.Compressor, Digester: b.o.Digester, Features: b.features(),
	})
}

// features are those of the new blob.
func (b *builder) features() rafs.BlobFeatures {
	f := b.o.features()
	switch {
	case b.src.typ == TypeTarfs:
		f = f&^rafs.BlobAligned | rafs.BlobTarfs
	case b.src.typ == TypeEStargzIndex:
		if b.o.Version == rafs.V6 {
			f |= rafs.BlobSeparate
		}
	case b.archive.index != nil:
		f |= rafs.BlobChunkInfoV2 | rafs.BlobSeparate | rafs.BlobZran
	case b.src.ref():
		f |= rafs.BlobChunkInfoV2 | rafs.BlobSeparate
	}
	return f
}

// blobID is the id of what this build writes, once everything is written.
func (b *builder) blobID() string {
	if b.o.BlobID != "" && !b.src.ref() {
		return b.o.BlobID
	}
	return b.blob.sum()
}

func (b *builder) openOutputs() error {
	if b.o.Encrypt {
		key, iv := b.o.Key, b.o.IV
		if key == ([32]byte{}) {
			// Never returns an error (Go 1.24).
			_, _ = rand.Read(key[:])
			_, _ = rand.Read(iv[:])
		}
		var err error
		if b.xts, err = codec.NewXTS(key, iv); err != nil {
			return fmt.Errorf("%w: %w", ErrOptions, err)
		}
		b.o.Key, b.o.IV = key, iv
	}
	var err error
	if b.sink.CacheDir != "" {
		if b.cache, err = newCacheWriter(b.sink.CacheDir); err != nil {
			return err
		}
	}
	b.blob, err = newBlobWriter(&b.sink, b.o.BlobID == "" || b.o.BlobTOC || b.src.ref())
	return err
}

// dump reads the source and stores its data.
func (b *builder) dump(ctx context.Context) error {
	switch b.src.typ {
	case TypeDirectory:
		return b.dumpDir(ctx)
	case TypeTar, TypeEStargz, TypeTarRef, TypeEStargzRef, TypeTarfs:
		return b.dumpTar(ctx)
	case TypeEStargzIndex:
		return b.dumpStargz()
	default:
		return fmt.Errorf("%w: source type %d is not supported", ErrOptions, b.src.typ)
	}
}

func (b *builder) dumpDir(ctx context.Context) error {
	s, err := openDirSource(b.src.path, b.o.Version == rafs.V6)
	if err != nil {
		return err
	}
	defer s.root.Close()
	t := time.Now()
	upper, err := s.walk(ctx, max(2, b.o.Workers))
	if err != nil {
		return err
	}
	if err := b.stack(upper); err != nil {
		return err
	}
	b.stage("build_tree", t)
	files, n := prefetchOrder(newFiles(b.root), b.o.Prefetch)
	p := b.pipeline()
	p.read = func(j *job) error { return s.readJob(p, j) }
	for _, f := range files {
		p.total += f.in.size
	}
	p.start(ctx, b.o.Workers)
	if err := p.finish(s.dump(p, files)); err != nil {
		return err
	}
	b.settle(p)
	if b.o.Prefetch.Policy == PrefetchBlob && b.o.Version == rafs.V5 {
		b.setPrefetchRange(files[:n])
	}
	return nil
}

// tarTree is an empty tree for the entries of an archive.
func (b *builder) tarTree() *tarTree {
	return newTarTree(b.o.Version == rafs.V6, b.parent != nil || b.merged())
}

// stack puts the new tree on the parent's.
func (b *builder) stack(upper *node) error {
	b.root = upper
	if b.parent != nil {
		return stackLayer(b.parent.root, upper, b.o.Whiteout, b.o.Version)
	}
	if b.merged() {
		markLayer(upper)
	}
	overlay(nil, upper, b.o.Whiteout)
	return nil
}

// merged reports whether this is a layer to be merged with others: its whiteouts are
// kept.
func (b *builder) merged() bool { return b.parent == nil && b.o.Whiteout == WhiteoutNone }

// newFiles lists the regular files of this layer that have data, once each, in
// the order of numbering.
func newFiles(root *node) []*node {
	var files []*node
	_ = root.visit(func(n *node) error {
		in := n.in
		if in.isReg() && in.size > 0 && in.flags&(inodeLower|inodeDumped) == 0 {
			in.flags |= inodeDumped
			files = append(files, n)
		}
		return nil
	})
	return files
}

func (b *builder) pipeline() *pipeline {
	p := &pipeline{set: b.set, out: b.own, o: &b.o, w: b.blob.w, cache: b.cache, xts: b.xts, newBlob: b.ownBlob}
	if b.blob.id != nil {
		p.hash = b.blob.id
	}
	if b.blob.out == nil && b.sink.BlobWriter == nil {
		p.w = io.Discard
	}
	return p
}

// settle takes over what the pipeline counted.
func (b *builder) settle(p *pipeline) {
	p.settle()
	b.blob.size += b.own.off - b.o.BlobOffset
	b.res.DataSize += p.dataSize
	b.res.DedupSize, b.res.DedupCount = p.dedupSize, p.dedupCount
	if b.o.Progress != nil {
		b.o.Progress(p.done, p.total, "data")
	}
}

// setPrefetchRange makes the blob's first bytes, up to the end of the files, its
// prefetch range (rafs.md 6.7).
func (b *builder) setPrefetchRange(files []*node) {
	if b.own.table < 0 {
		return
	}
	var end uint64
	for _, n := range files {
		for _, id := range n.in.chunks {
			if c := &b.set.list[id]; int(c.Blob) == b.own.table {
				end = max(end, c.CompressedOff+uint64(c.CompressedSize))
			}
		}
	}
	b.blobs[b.own.table].PrefetchSize = uint32(min(end, 1<<32-1))
}

// finish writes everything after the chunk data, checks the result and names
// the outputs.
func (b *builder) finish(ctx context.Context) error {
	if err := b.checkPlace(); err != nil {
		return err
	}
	m := &image{
		version: b.o.Version, flags: b.o.flags() | b.tarfsFlag(), chunkSize: b.o.ChunkSize, root: b.root, chunks: b.set.list, mixed: b.parent != nil && b.o.ChunkDict != nil,
		digester: b.o.Digester, prefetch: prefetchNodes(b.root, b.o.Prefetch),
	}
	s := &sections{b: b, m: m}
	if err := s.write(); err != nil {
		return err
	}
	if !b.o.SkipCheck {
		if err := checkResult(ctx, s.bootstrap); err != nil {
			return err
		}
	}
	return b.commit(s)
}

func (b *builder) tarfsFlag() rafs.SuperFlags {
	if b.src.typ == TypeTarfs {
		return rafs.FlagTarfs
	}
	return 0
}

// checkPlace refuses data without a place to put it.
func (b *builder) checkPlace() error {
	if b.src.typ == TypeTarfs || b.src.typ == TypeEStargzIndex {
		return nil // the tar or the layer is the blob, whether anything is stored here or not
	}
	hasBlob := b.own.table >= 0 || b.o.InlineMeta
	if hasBlob && b.blob.out == nil && b.sink.BlobWriter == nil && b.sink.CacheDir == "" {
		return fmt.Errorf("%w: no place for the data blob", ErrOptions)
	}
	return nil
}

// checkResult reads the finished bootstrap as any reader would.
func checkResult(ctx context.Context, data []byte) error {
	im, err := rafs.Open(data, rafs.Options{})
	if err != nil {
		return fmt.Errorf("check the result: %w", err)
	}
	if _, err := im.Check(ctx, rafs.CheckOptions{MaxProblems: 1}); err != nil {
		return fmt.Errorf("check the result: %w", err)
	}
	return nil
}
