package blobcache

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend/backendtest"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// TestRandomReads lets readers read random lists of spans into random buffers while
// the directory is opened anew, pages are dropped, proofs deleted, and the back end
// gives wrong bytes now and then. Every read equals the one assembled in memory.
func TestRandomReads(t *testing.T) {
	s := makeSample(t,
		blobSpec{id: "one", sizes: mixed, comp: rafs.CompressorZstd, crc: true},
		blobSpec{id: "two", sizes: sizes(60, 3000), comp: rafs.CompressorLZ4, batch: 7, digester: rafs.DigesterSHA256},
		blobSpec{id: "three", sizes: sizes(20, 20_000)})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	rounds := testenv.Rounds(60)
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		var reads atomic.Uint64
		every := 2 + r.Uint64N(20)
		blobs := backendtest.Faulty(s.blobs, func(read backendtest.Read) backendtest.Fault {
			return backendtest.Fault{Flip: !read.Origin && reads.Add(1)%every == 0}
		})
		e := newEnv(t, s, dir, Options{Amplify: r.Uint64N(200_000), Requests: 1 + r.IntN(8)}, blobs)
		var wg sync.WaitGroup
		for i := range 4 {
			r := rand.New(rand.NewPCG(seed, uint64(round*10+i)))
			wg.Go(func() { randomReads(t, e, r, 50) })
		}
		if r.IntN(2) == 0 {
			e.evict()
		}
		wg.Wait()
		e.close()
		for _, suffix := range []string{sidecarSuffix, mapSuffix, dataSuffix, metaSuffix} {
			if r.IntN(4) == 0 {
				_ = os.Remove(filepath.Join(dir, s.im.Blobs()[r.IntN(3)].ID+suffix))
			}
		}
	}
}

// randomReads makes n reads.
func randomReads(t *testing.T, e *env, r *rand.Rand, n int) {
	var reader Reader
	for range n {
		var spans []rafs.Span
		for range 1 + r.IntN(6) {
			blob := r.IntN(len(e.spans))
			for k := r.IntN(len(e.spans[blob])); k < len(e.spans[blob]); k++ { // often a run
				whole := e.spans[blob][k]
				from := r.Uint32N(whole.Len)
				if r.IntN(2) == 0 {
					from = 0
				}
				size := whole.Len - from
				if r.IntN(2) == 0 {
					size = 1 + r.Uint32N(size)
				}
				spans = append(spans, part(e.sample, blob, k, uint64(from), size))
				if r.IntN(2) == 0 {
					break
				}
			}
		}
		got, err := readAll(t.Context(), e.cache, &reader, spans)
		if err != nil {
			t.Error(err)
			return
		}
		if !bytes.Equal(got, e.bytes(spans)) {
			t.Errorf("wrong bytes: %+v", spans)
			return
		}
	}
}
