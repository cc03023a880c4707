package blobcache

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// FuzzChunkMap puts any bytes in the place of a chunk map. Opening it must give an
// error or a map whose bits can be read and set.
func FuzzChunkMap(f *testing.F) {
	valid := make([]byte, chunkMapSize(20))
	copy(valid, "\x50\x41\x4d\x42\x01\x00\x00\x00\x50\x41\x4d\x43")
	valid[4096] = 0x81
	old := bytes.Clone(valid)
	clear(old[4:12])
	f.Add(valid, uint32(20))
	f.Add(old, uint32(20))
	f.Add(make([]byte, len(valid)), uint32(20))
	f.Add(valid[:4096], uint32(1))
	f.Add([]byte{}, uint32(1<<24))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, chunks uint32) {
		chunks %= rafs.MaxChunksPerBlob + 1
		path := filepath.Join(dir, "map")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		m, err := openChunkMap(file, chunks, false)
		if err != nil {
			return
		}
		defer func() { _ = m.close() }()
		seen := map[rafs.ChunkIndex]bool{}
		for _, i := range []uint32{0, 7, 8, chunks / 2, chunks - 1, chunks, 1 << 31} {
			i := rafs.ChunkIndex(i)
			before := m.has(i)
			if uint32(i) >= chunks && before {
				t.Errorf("chunk %d of %d is there", i, chunks)
			}
			if n := chunkMapHeader + int(i/8); uint32(i) < chunks && n < len(data) && before != (seen[i] || data[n]&(0x80>>(i%8)) != 0) {
				t.Errorf("bit %d: %v", i, before)
			}
			seen[i] = true
			if err := m.set(i); err != nil {
				t.Error(err)
			}
			if m.has(i) != (uint32(i) < chunks) {
				t.Errorf("bit %d of %d after it was set: %v", i, chunks, m.has(i))
			}
		}
	})
}

// FuzzSidecar puts any bytes in the place of a sidecar. Proofs count only under the
// header of this boot and this file.
func FuzzSidecar(f *testing.F) {
	id := identity{boot: [16]byte{1, 2, 3}, dev: 7, ino: 8, sec: 9, nsec: 10}
	h := id.header()
	valid := append(append(h[:], make([]byte, 4096-sidecarHeader)...), bytes.Repeat([]byte{5}, 64)...)
	f.Add(valid)
	f.Add(valid[:sidecarHeader])
	f.Add(valid[:4100])
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "side")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSidecar(opener.Local(), path, id, true)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.close() }()
		believed := bytes.HasPrefix(data, h[:])
		for i := range rafs.ChunkIndex(3) {
			want := proof{}
			if at := sidecarPlace(i); believed && int(at)+len(want) <= len(data) {
				want = proof(data[at:])
			}
			if got := s.read(i); got != want {
				t.Errorf("proof %d: %x, want %x", i, got, want)
			}
		}
		if err := s.write(1, proof{9}); err != nil || s.read(1) != (proof{9}) {
			t.Errorf("written proof: %v", err)
		}
		again, err := openSidecar(opener.Local(), path, id, true)
		if err != nil || again.read(1) != (proof{9}) {
			t.Errorf("proof is lost: %v", err)
		}
		_ = again.close()
	})
}

// FuzzMetaFile puts any bytes in the place of a .blob.meta. Reads must give the right
// bytes all the same, from the back end's.
func FuzzMetaFile(f *testing.F) {
	s := makeSample(f, blobSpec{id: "one", sizes: sizes(6, 700), comp: rafs.CompressorZstd, batch: 3})
	b := &s.im.Blobs()[0]
	store := func(dir string) (*Store, *Cache) {
		st, err := NewStore(opener.Local(), Options{Dir: dir, Workers: 1})
		if err != nil {
			f.Fatal(err)
		}
		c, err := st.Open(s.im, s.blobs, ImageOptions{})
		if err != nil {
			f.Fatal(err)
		}
		return st, c
	}
	read := func(t testing.TB, dir string) {
		st, c := store(dir)
		var r Reader
		got, err := readAll(t.Context(), c, &r, s.all())
		if err != nil || !bytes.Equal(got, s.bytes(s.all())) {
			t.Errorf("%v, or wrong bytes", err)
		}
		_ = c.Close()
		_ = st.Close()
	}
	dir := f.TempDir()
	read(f, dir)
	path := filepath.Join(dir, "one"+metaSuffix)
	valid, err := os.ReadFile(path)
	if err != nil || uint64(len(valid)) != metaFileSize(b) {
		f.Fatalf("%d bytes, %v", len(valid), err)
	}
	f.Add(valid)
	f.Add(valid[:100])
	zeros := bytes.Clone(valid)
	clear(zeros[:4096])
	f.Add(zeros)
	for _, at := range []int{0, 7, 8, 16, 24 * 6, 24*6 + 4, 4096 + 40, 4096 + 56} {
		flipped := bytes.Clone(valid)
		flipped[at] ^= 0x41
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{dataSuffix, mapSuffix, sidecarSuffix} {
			_ = os.Remove(filepath.Join(dir, "one"+name))
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		read(t, dir)
	})
}

func TestReadingAStaleMetaWithoutBackEndFails(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(6, 700), comp: rafs.CompressorZstd, batch: 3})
	e := newEnv(t, s, t.TempDir(), Options{}, backendtest.Memory{})
	if err := e.cache.Fetch(t.Context(), s.all(), nil); err == nil {
		t.Error("read without any source")
	}
}
