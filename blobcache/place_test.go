package blobcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// renumbered gives the image of s, of one blob, with its first two chunks' numbers
// exchanged, and the span of chunk 1, which lies where chunk 0 of s does.
func renumbered(t *testing.T, s *sample) (*rafs.Image, []rafs.Span) {
	t.Helper()
	boot := bytes.Clone(s.boot)
	table := boot[le.Uint64(boot[rafs.V6ExtOff+rafs.V6ExtChunkTableAt:]):]
	for range s.spans[0] {
		if i := le.Uint32(table[rafs.ChunkInfoIndexAt:]); i < 2 {
			le.PutUint32(table[rafs.ChunkInfoIndexAt:], 1-i)
		}
		table = table[rafs.ChunkInfoSize:]
	}
	im, err := rafs.Open(boot, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	span := s.spans[0][0]
	span.Index = 1
	return im, []rafs.Span{span}
}

// TestEvictionGoesByPlace evicts what one image calls chunk 1 while another has read
// what it calls chunk 1: of the first neither a mark nor a proof may stay.
func TestEvictionGoesByPlace(t *testing.T) {
	for name, proofs := range map[string]bool{"with proofs": true, "without proofs": false} {
		t.Run(name, func(t *testing.T) {
			s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 65536)})
			e := newEnv(t, s, t.TempDir(), Options{}, nil)
			e.check(s.all())
			b := onlyFile(t, e.store)
			if !proofs {
				if err := b.side.close(); err != nil {
					t.Fatal(err)
				}
				b.side = nil
			}
			im, spans := renumbered(t, s)
			c := openImage(t, e.store, im, s)
			read := func() {
				t.Helper()
				var r Reader
				got, err := readAll(t.Context(), c, &r, spans)
				if err != nil || !bytes.Equal(got, s.data[0][0]) {
					t.Errorf("%v, or wrong bytes", err)
				}
			}
			read()
			if proofs { // which are all that is left of the image when it is closed
				_ = c.Close()
			}
			for range 2 { // the first takes the marks of use off
				e.hit(s.all()[1:2])
				if _, err := e.store.evictCold(b); err != nil {
					t.Fatal(err)
				}
			}
			e.hit(s.all()[1:2])
			if proofs {
				c = openImage(t, e.store, im, s)
			}
			read()
		})
	}
}

// openImage opens another image over the blobs of s.
func openImage(t *testing.T, store *Store, im *rafs.Image, s *sample) *Cache {
	t.Helper()
	c, err := store.Open(im, s.blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestEvictionNeedsNoSpace evicts on a full disk, from a sidecar with holes and under a
// map with holes.
func TestEvictionNeedsNoSpace(t *testing.T) {
	testenv.Need(t, testenv.Root)
	const chunks = 100_000
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(chunks, 1)})
	e := newEnv(t, s, dir, Options{}, nil)
	defer e.close()
	e.check(s.all()[:1])
	e.check(s.all()[chunks-1:])
	sparseMap(t, filepath.Join(dir, "idle"+mapSuffix), chunks)
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	b, freed := onlyFile(t, e.store), uint64(0)
	for range 2 { // the first takes the marks of use off
		n, err := e.store.evictCold(b)
		if err != nil {
			t.Fatal(err)
		}
		freed += n
	}
	if freed == 0 {
		t.Error("no chunk was evicted")
	}
	e.check(s.all()[:1])
	if _, err := Evict(opener.Local(), dir, "idle"); err != nil {
		t.Error(err)
	}
}

// sparseMap makes a map as a nydusd does, with the bit of the last chunk.
func sparseMap(t *testing.T, path string, chunks uint32) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := chunkMapSize(chunks)
	var head [chunkMapReadyAt]byte
	binary.NativeEndian.PutUint32(head[chunkMapMagicAt:], chunkMapMagic)
	_, err = f.WriteAt(head[:], 0)
	_, err2 := f.WriteAt([]byte{1}, size-1)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}
