package blobcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// An env is a store and one image in it.
type env struct {
	*sample
	t     *testing.T
	dir   string
	store *Store
	cache *Cache
	r     Reader
}

// newEnv opens an image over dir.
func newEnv(t *testing.T, s *sample, dir string, opt Options, blobs backend.Opener) *env {
	t.Helper()
	opt.Dir = dir
	store, err := NewStore(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if blobs == nil {
		blobs = s.blobs
	}
	c, err := store.Open(s.im, blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{sample: s, t: t, dir: dir, store: store, cache: c}
	t.Cleanup(e.close)
	return e
}

func (e *env) close() {
	if err := errors.Join(e.cache.Close(), e.store.Close()); err != nil {
		e.t.Error(err)
	}
}

// check reads spans and compares them.
func (e *env) check(spans []rafs.Span) {
	e.t.Helper()
	got, err := readAll(e.t.Context(), e.cache, &e.r, spans)
	if err != nil {
		e.t.Fatal(err)
	}
	if !bytes.Equal(got, e.bytes(spans)) {
		e.t.Fatal("wrong bytes")
	}
}

// hit reads spans and demands that they need no waiting.
func (e *env) hit(spans []rafs.Span) {
	e.t.Helper()
	want := e.bytes(spans)
	out := make([]byte, len(want))
	if n, err := e.cache.TryRead(&e.r, spans, uneven(out)); err != nil || n != len(want) {
		e.t.Fatalf("TryRead: %d of %d, %v", n, len(want), err)
	}
	if !bytes.Equal(out, want) {
		e.t.Fatal("wrong bytes")
	}
}

// prefetch prefetches spans as a list would.
func (e *env) prefetch(ctx context.Context, spans []rafs.Span) error {
	return e.cache.Prefetch(ctx, Soon, nil, func(p *Prefetch) { p.Add(spans) })
}

// prefetchBlob prefetches a blob as a whole.
func (e *env) prefetchBlob(ctx context.Context, blob int) error {
	return e.cache.Prefetch(ctx, Sometime, nil, func(p *Prefetch) { p.AddBlob(blob, 0, 0) })
}

// mixed are chunk sizes with odd tails.
var mixed = []uint32{1 << 20, 1, 4096, 4097, 65536, 1 << 20, 100_000, 12, 1<<20 - 1, 3000}

func kinds() map[string]blobSpec {
	return map[string]blobSpec{
		"none blake3":      {sizes: mixed},
		"lz4 sha256 crc":   {sizes: mixed, comp: rafs.CompressorLZ4, digester: rafs.DigesterSHA256, crc: true},
		"zstd":             {sizes: mixed, comp: rafs.CompressorZstd},
		"gzip":             {sizes: mixed, comp: rafs.CompressorGzip, features: rafs.BlobChunkInfoV2},
		"batch":            {sizes: []uint32{100, 5000, 1, 9000, 77, 4096}, comp: rafs.CompressorZstd, batch: 4},
		"encrypted":        {sizes: mixed, comp: rafs.CompressorZstd, features: rafs.BlobEncrypted},
		"encrypted batch":  {sizes: []uint32{100, 5000, 1, 9000, 77}, comp: rafs.CompressorLZ4, features: rafs.BlobEncrypted, batch: 3},
		"encrypted tiny":   {sizes: []uint32{5, 3, 7}, comp: rafs.CompressorLZ4, features: rafs.BlobEncrypted, batch: 2},
		"encrypted small":  {sizes: []uint32{5, 15, 16, 17, 18}, features: rafs.BlobEncrypted},
		"digests in ToC":   {sizes: mixed, comp: rafs.CompressorZstd, features: rafs.BlobInlinedChunkDigest | rafs.BlobHasTOC, naked: true},
		"zran, separate":   {sizes: []uint32{100, 5000, 1 << 20, 1, 9000, 77, 4096}, comp: rafs.CompressorGzip, digester: rafs.DigesterSHA256, zran: 3},
		"many tiny chunks": {sizes: sizes(300, 10), comp: rafs.CompressorLZ4},
	}
}

func TestReadsEveryKindOfBlob(t *testing.T) {
	for name, spec := range kinds() {
		t.Run(name, func(t *testing.T) {
			spec.id = "blob"
			s := makeSample(t, spec)
			dir := t.TempDir()
			e := newEnv(t, s, dir, Options{}, nil)
			for i := range s.spans[0] {
				e.check(s.spans[0][i : i+1])
			}
			e.check(s.all())
			if st := e.cache.Stats(); !st.Ready || st.Unstored != 0 || st.Mismatches != 0 || st.Entries != uint64(len(spec.sizes)) {
				t.Errorf("stats %+v", st)
			}
			checkFiles(t, s, dir)
			// Another process: all proofs are there, no back end is asked.
			again := newEnv(t, s, dir, Options{}, backendtest.Memory{})
			if spec.naked {
				again = newEnv(t, s, dir, Options{}, nil)
			}
			again.check(s.all())
			again.hit(s.all()[:1])
		})
	}
}

// checkFiles compares the files with what a nydusd would have made.
func checkFiles(t *testing.T, s *sample, dir string) {
	t.Helper()
	for i, b := range s.im.Blobs() {
		data, err := os.ReadFile(filepath.Join(dir, b.ID+dataSuffix))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, b.UncompressedSize)
		for k, sp := range s.spans[i] {
			copy(want[sp.Off:], s.data[i][k])
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s differs", b.ID+dataSuffix)
		}
		m, err := os.ReadFile(filepath.Join(dir, b.ID+mapSuffix))
		if err != nil {
			t.Fatal(err)
		}
		wantMap := make([]byte, 4096+(b.ChunkCount+7)/8)
		copy(wantMap, "\x50\x41\x4d\x42\x01\x00\x00\x00\x50\x41\x4d\x43\x50\x41\x4d\x4d")
		for k := range b.ChunkCount {
			wantMap[4096+k/8] |= 0x80 >> (k % 8)
		}
		if !bytes.Equal(m, wantMap) {
			t.Errorf("%s: %x... bits %x", b.ID+mapSuffix, m[:16], m[4096:])
		}
		meta, err := os.ReadFile(filepath.Join(dir, b.ID+metaSuffix))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(meta); n < 8192 || n%4096 != 0 || le.Uint32(meta[n-4096:]) != rafs.BlobMetaMagic {
			t.Errorf("%s: %d bytes", b.ID+metaSuffix, len(meta))
		} else if _, err := rafs.ParseBlobMeta(&s.im.Blobs()[i], meta[n-4096:], meta[:n-4096]); err != nil {
			t.Error(err)
		}
	}
}

func TestTwoImagesShareFilesAndFetches(t *testing.T) {
	s := makeSample(t, blobSpec{id: "blob", sizes: sizes(8, 5000), comp: rafs.CompressorLZ4})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	c, err := e.store.Open(s.im, s.blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.check(s.all())
	var r Reader
	got, err := readAll(t.Context(), c, &r, s.all())
	if err != nil || !bytes.Equal(got, s.bytes(s.all())) {
		t.Fatalf("second image: %v, or wrong bytes", err)
	}
	if st := c.Stats(); st.Requests > 1 || st.Entries != 0 {
		t.Errorf("the second image fetched: %+v", st)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	e.hit(s.all()[:2])
}

func TestImageWithOtherDigestsIsNotServedFromProofs(t *testing.T) {
	s := makeSample(t, blobSpec{id: "blob", sizes: sizes(4, 5000)})
	other := makeSample(t, blobSpec{id: "0", sizes: sizes(1, 10)}, blobSpec{id: "blob", sizes: sizes(4, 5000)})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	// Same blob id, same shape, other content: the same file can't hold both.
	o := newEnv(t, other, dir, Options{}, nil)
	o.check(other.all())
	o.check(other.all())
	if st := o.cache.Stats(); st.Unstored < 4 {
		t.Errorf("overwrote another image's chunks: %+v", st)
	}
	e.check(s.all())
	e.hit(s.all())
}

func TestValidateChecksWhatOthersHaveProven(t *testing.T) {
	s := makeSample(t, blobSpec{id: "blob", sizes: sizes(4, 5000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	f, err := os.OpenFile(filepath.Join(e.dir, "blob"+dataSuffix), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("somebody else's"), 100); err != nil {
		t.Fatal(err)
	}
	c, err := e.store.Open(s.im, s.blobs, ImageOptions{Validate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var r Reader
	got, err := readAll(t.Context(), c, &r, s.all())
	if err != nil || !bytes.Equal(got, s.bytes(s.all())) {
		t.Errorf("%v, or wrong bytes", err)
	}
	if st := c.Stats(); st.Mismatches != 1 || st.Entries != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestBlobsWithoutDigestsAreRefusedUnlessAllowed(t *testing.T) {
	s := makeSample(t, blobSpec{id: "blob", sizes: sizes(4, 5000), naked: true, crc: true})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	if err := e.cache.Fetch(t.Context(), s.all(), nil); !errors.Is(err, ErrUnverified) {
		t.Errorf("a CRC alone was taken for a digest: %v", err)
	}
	c, err := e.store.Open(s.im, s.blobs, ImageOptions{AllowUnverified: []string{"blob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var r Reader
	got, err := readAll(t.Context(), c, &r, s.all())
	if err != nil || !bytes.Equal(got, s.bytes(s.all())) {
		t.Errorf("allowed by name: %v, or wrong bytes", err)
	}
	// Allowed, but a CRC that is there is checked.
	s.blobs["blob"][4] ^= 1
	c2, err := e.store.Open(s.im, s.blobs, ImageOptions{AllowUnverified: []string{"blob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if err := os.Truncate(filepath.Join(e.dir, "blob"+dataSuffix), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t.Context(), c2, &r, s.all()[:1]); err == nil {
		t.Error("wrong CRC was served")
	}
}

func TestSpansOutsideTheirChunkAreRefused(t *testing.T) {
	s := makeSample(t, blobSpec{id: "blob", sizes: sizes(4, 5000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	for _, sp := range []rafs.Span{
		{Index: 0, Off: 8192, Len: 10},
		{Index: 1, Off: 0, Len: 10},
		{Index: 0, Off: 4999, Len: 2},
		{Index: 9, Off: 0, Len: 1},
		{Index: 1 << 30, Off: 0, Len: 1},
		{Blob: 3, Index: 0, Off: 0, Len: 1},
	} {
		t.Run(fmt.Sprint(sp), func(t *testing.T) {
			if _, err := readAll(t.Context(), e.cache, &e.r, []rafs.Span{sp}); !errors.Is(err, rafs.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}
