package blobcache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"vrafs/internal/opener"
)

// A gate is an opener that stops openings of one file until it is opened. Each that comes
// is reported on came.
type gate struct {
	opener.Opener
	path string
	came chan struct{}
	open chan struct{}
}

func (g *gate) Open(path string, flags int, perm uint32) (*os.File, error) {
	if path == g.path {
		g.came <- struct{}{}
		<-g.open
	}
	return g.Opener.Open(path, flags, perm)
}

// TestOneOpeningDelaysNoOther holds up the opening of one blob's data file, as another
// process's eviction does.
func TestOneOpeningDelaysNoOther(t *testing.T) {
	s := makeSample(t, blobSpec{id: "slow", sizes: sizes(2, 5000)}, blobSpec{id: "fast", sizes: sizes(2, 5000)})
	dir := t.TempDir()
	g := &gate{Opener: opener.Local(), path: filepath.Join(dir, "slow"+dataSuffix), came: make(chan struct{}, 9), open: make(chan struct{})}
	store, err := NewStore(g, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	images := [3]*Cache{openImage(t, store, s.im, s), openImage(t, store, s.im, s), openImage(t, store, s.im, s)}
	var wg sync.WaitGroup
	slow := func(c *Cache) {
		wg.Go(func() {
			var r Reader
			got, err := readAll(t.Context(), c, &r, s.spans[0])
			if err != nil || !bytes.Equal(got, s.bytes(s.spans[0])) {
				t.Errorf("slow blob: %v, or wrong bytes", err)
			}
		})
	}
	slow(images[0])
	<-g.came
	slow(images[1])

	var r Reader
	got, err := readAll(t.Context(), images[2], &r, s.spans[1])
	if err != nil || !bytes.Equal(got, s.bytes(s.spans[1])) {
		t.Errorf("other blob: %v, or wrong bytes", err)
	}
	store.warn("fast", "a warning", nil)
	lent := store.borrow()
	if lent["fast"] == nil || lent["slow"] != nil {
		t.Errorf("lent were %v, want the open files", lent)
	}
	store.giveBack(lent)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	key := blobKey{id: "slow", size: s.im.Blobs()[0].UncompressedSize, chunks: 2}
	if _, _, err := store.acquire(over, key); !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}

	close(g.open)
	wg.Wait()
	if len(g.came) != 0 {
		t.Error("the files were opened twice")
	}
}
