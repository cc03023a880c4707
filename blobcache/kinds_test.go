package blobcache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/backend/localfs"
	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// files calls visit for every regular file of an image.
func files(t *testing.T, im *rafs.Image, visit func(n *rafs.Inode)) {
	t.Helper()
	var walk func(ino rafs.Ino)
	walk = func(ino rafs.Ino) {
		n, err := im.Inode(ino)
		if err != nil {
			t.Fatal(err)
		}
		if n.IsRegular() {
			visit(&n)
		}
		if !n.IsDir() {
			return
		}
		cur, err := n.Dir(0)
		if err != nil {
			t.Fatal(err)
		}
		var d rafs.Dirent
		for {
			ok, err := cur.Next(&d)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			if name := string(d.Name); name != "." && name != ".." {
				walk(d.Ino)
			}
		}
	}
	walk(im.Root())
}

// readImage reads all files of an image through a cache and compares each chunk with
// the digest in want, which may be nil.
func readImage(t *testing.T, im *rafs.Image, c *Cache, digest func(rafs.Span) (rafs.Digest, bool)) (read int) {
	t.Helper()
	var r Reader
	files(t, im, func(n *rafs.Inode) {
		spans, err := n.AppendSpans(nil, 0, n.Size())
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t.Context(), c, &r, spans)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			p := got[:s.Len]
			got = got[s.Len:]
			if want, ok := digest(s); ok && codec.Sum(im.Blobs()[s.Blob].Digester, p) != want {
				t.Errorf("chunk %d: wrong bytes", s.Index)
			}
			read++
		}
	})
	return read
}

func openReal(t *testing.T, name string, patch func(b []byte)) *rafs.Image {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Testdata(t), name))
	if err != nil {
		t.Fatal(err)
	}
	if patch != nil {
		patch(b)
	}
	im, err := rafs.Open(b, rafs.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestRealImages(t *testing.T) {
	samples := testenv.Testdata(t)
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: samples})
	if err != nil {
		t.Fatal(err)
	}
	noExt := func(b []byte) { clear(b[rafs.V5SuperExtEntriesAt : rafs.V5SuperExtTableAt+8]) }
	for _, tt := range []struct {
		name, file string
		patch      func([]byte)
		mapped     bool
	}{
		{"v5 sha256", "v5-sha256-none.boot", nil, true},
		{"v5 blake3", "v5-blake3.boot", nil, true},
		{"v5 without extended table", "v5-sha256-none.boot", noExt, false},
		{"v6", "v6-blake3-zstd.boot", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := openReal(t, tt.file, tt.patch)
			dir := t.TempDir()
			digest := func(s rafs.Span) (rafs.Digest, bool) {
				c, err := im.ChunkAt(s.Ref)
				return c.Digest, err == nil
			}
			if im.Version() == rafs.V6 {
				index, err := im.BuildIndex(0, make([]byte, im.IndexBytes(0)))
				if err != nil {
					t.Fatal(err)
				}
				digest = func(s rafs.Span) (rafs.Digest, bool) {
					c, ok := index.Chunk(s.Index)
					return c.Digest, ok
				}
			}
			for round, from := range []backend.Opener{blobs, backendtest.Memory{}} { // the second from the files alone
				store, err := NewStore(opener.Local(), Options{Dir: dir, Amplify: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				c, err := store.Open(im, from, ImageOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if n := readImage(t, im, c, digest); n == 0 {
					t.Error("nothing was read")
				}
				if st := c.Stats(); st.Mismatches != 0 || round == 1 && st.RequestBytes != 0 {
					t.Errorf("stats %+v", st)
				}
				if err := errors.Join(c.Close(), store.Close()); err != nil {
					t.Error(err)
				}
			}
			_, err := os.Stat(filepath.Join(dir, im.Blobs()[0].ID+mapSuffix))
			if mapped := err == nil; mapped != tt.mapped {
				t.Errorf("has a chunk map: %v", mapped)
			}
		})
	}
}

func TestPrefetchOfV5GoesByStoredRange(t *testing.T) {
	samples := testenv.Testdata(t)
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: samples})
	if err != nil {
		t.Fatal(err)
	}
	im := openReal(t, "v5-sha256-none.boot", nil)
	store, err := NewStore(opener.Local(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c, err := store.Open(im, blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Prefetch(t.Context(), Sometime, nil, func(p *Prefetch) { p.AddBlob(0, 0, 4096) }); err != nil {
		t.Fatal(err)
	}
	some := c.BlobStates()[0]
	if err := c.Prefetch(t.Context(), Sometime, nil, func(p *Prefetch) { p.AddBlob(0, 0, 0) }); err != nil {
		t.Fatal(err)
	}
	all := c.BlobStates()[0]
	if some.Verified == 0 || some.Verified >= all.Verified || all.Verified != all.Chunks || !c.Stats().Ready {
		t.Errorf("4 KiB: %+v, all: %+v", some, all)
	}
}

// tarfs makes an image over a plain tar: its spans are ranges of the tar.
func tarfs(t *testing.T, size int) (*rafs.Image, []byte) {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 13 >> 3)
	}
	e := make([]byte, rafs.V6BlobSize)
	copy(e, "tarball")
	le.PutUint32(e[rafs.V6BlobChunkSizeAt:], 1<<sampleChunkBits)
	le.PutUint32(e[rafs.V6BlobDigesterAt:], uint32(rafs.DigesterSHA256))
	le.PutUint32(e[rafs.V6BlobFeaturesAt:], uint32(rafs.BlobTarfs|rafs.BlobCapTarTOC))
	le.PutUint64(e[rafs.V6BlobCompressedAt:], uint64(size))
	le.PutUint64(e[rafs.V6BlobUncompressedAt:], uint64(size))
	b := bootstrap([]blobSpec{{id: "tarball"}}, e, nil)
	b[rafs.V6SuperOff+rafs.V6SuperBlkSzBitsAt] = rafs.V6BlkSzBitsTarfs
	at := rafs.V6ExtOff + rafs.V6ExtFlagsAt
	le.PutUint64(b[at:], le.Uint64(b[at:])|uint64(rafs.FlagTarfs))
	at = rafs.V6SuperOff + rafs.V6SuperMetaBlkaddrAt
	le.PutUint32(b[at:], le.Uint32(b[at:])<<3)
	im, err := rafs.Open(b, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return im, data
}

func TestTarfsIsServedIfAllowed(t *testing.T) {
	im, data := tarfs(t, 100_000)
	dir := t.TempDir()
	store, err := NewStore(opener.Local(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Open(im, backendtest.Memory{}, ImageOptions{}); !errors.Is(err, ErrUnverified) {
		t.Fatalf("tar without digests: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tarball"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	spans := []rafs.Span{{Off: 512, Len: 70_000}, {Off: 80_000, Len: 5}}
	want := append(bytes.Clone(data[512:70_512]), data[80_000:80_005]...)
	for name, blobs := range map[string]backend.Opener{
		"from the directory":    backendtest.Memory{},
		"from the back end":     backendtest.Memory{"tarball": data},
		"from nowhere: refused": backendtest.Memory{},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "from the directory" {
				if err := os.RemoveAll(filepath.Join(dir, "tarball")); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(filepath.Join(dir, "tarball"), data, 0o644); err != nil {
				t.Fatal(err)
			}
			c, err := store.Open(im, blobs, ImageOptions{AllowUnverified: []string{"tarball"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var r Reader
			got, err := readAll(t.Context(), c, &r, spans)
			if name == "from nowhere: refused" {
				if !errors.Is(err, backend.ErrNotFound) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, or wrong bytes", err)
			}
		})
	}
}

// TestExternalBlobsAreServedIfAllowed reads a blob that is somebody else's file: it
// has neither digests nor blob.meta, only CRCs in the chunk table (section 4.11).
func TestExternalBlobsAreServedIfAllowed(t *testing.T) {
	s := makeSample(t, blobSpec{id: "outside", sizes: []uint32{1 << sampleChunkBits, 1 << sampleChunkBits, 777},
		features: rafs.BlobExternal, naked: true, crc: true})
	table := le.Uint64(s.boot[rafs.V6ExtOff+rafs.V6ExtBlobTableAt:])
	entry := s.boot[table:][:rafs.V6BlobSize]
	clear(entry[rafs.V6BlobCICompressorAt:rafs.V6BlobTOCDigestAt])
	im, err := rafs.Open(s.boot, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := NewStore(opener.Local(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Open(im, s.blobs, ImageOptions{}); !errors.Is(err, ErrUnverified) {
		t.Fatalf("external blob that nobody allowed: %v", err)
	}
	allowed := ImageOptions{AllowUnverified: []string{"outside"}}
	c, err := store.Open(im, s.blobs, allowed)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var r Reader
	if got, err := readAll(t.Context(), c, &r, s.all()); err != nil || !bytes.Equal(got, s.bytes(s.all())) {
		t.Errorf("%v, or wrong bytes", err)
	}
	s.blobs["outside"][4] ^= 1
	other, err := NewStore(opener.Local(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	changed, err := other.Open(im, s.blobs, allowed)
	if err != nil {
		t.Fatal(err)
	}
	defer changed.Close()
	if _, err := readAll(t.Context(), changed, &r, s.all()[:1]); err == nil {
		t.Error("bytes with another CRC were served")
	}
	if _, err := readAll(t.Context(), changed, &r, s.all()[1:]); err != nil {
		t.Errorf("a good chunk of the same blob: %v", err)
	}
}
