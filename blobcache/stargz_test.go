package blobcache

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vrafs/backend/backendtest"
	"vrafs/build"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// stargzImage is an image made of the table of contents of an eStargz layer, and
// the layer. Its chunks compress well, badly and not at all.
func stargzImage(t *testing.T, v rafs.Version) (*rafs.Image, []byte) {
	t.Helper()
	random := make([]byte, 70_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	var layer bytes.Buffer
	var entries []map[string]any
	for i, data := range [][]byte{[]byte(strings.Repeat("text ", 50_000)), random, []byte("t"), random[:4096]} {
		sum := sha256.Sum256(data)
		entries = append(entries, map[string]any{"name": fmt.Sprint("f", i), "type": "reg", "size": len(data), "mode": 0o644,
			"offset": layer.Len(), "digest": "sha256:" + hex.EncodeToString(sum[:])})
		w := gzip.NewWriter(&layer)
		_, err := w.Write(append(bytes.Clone(data), "the next header"...))
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	toc, err := json.Marshal(map[string]any{"version": 1, "entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	var boot bytes.Buffer
	_, err = build.Build(t.Context(), build.Stream(build.TypeEStargzIndex, bytes.NewReader(toc), "toc"),
		build.Sink{BootstrapWriter: &boot}, build.Options{Version: v, BlobID: "layer", ChunkSize: 0x400000})
	if err != nil {
		t.Fatal(err)
	}
	im, err := rafs.Open(boot.Bytes(), rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return im, layer.Bytes()
}

// TestEStargzLayersAreServedByTheirTable: sizes in the image are upper bounds, for the
// last chunk beyond the end of the layer.
func TestEStargzLayersAreServedByTheirTable(t *testing.T) {
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		im, layer := stargzImage(t, v)
		index, err := im.BuildIndex(0, make([]byte, im.IndexBytes(0)))
		if err != nil {
			t.Fatal(err)
		}
		for _, amplify := range []uint64{0, 1 << 20} {
			store, err := NewStore(opener.Local(), Options{Dir: t.TempDir(), Amplify: amplify})
			if err != nil {
				t.Fatal(err)
			}
			c, err := store.Open(im, backendtest.Memory{"layer": layer}, ImageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			n := readImage(t, im, c, func(s rafs.Span) (rafs.Digest, bool) {
				c, ok := index.Chunk(s.Index)
				return c.Digest, ok
			})
			if n != 4 {
				t.Errorf("v%d: %d chunks read, want 4", v, n)
			}
			if err := errors.Join(c.Close(), store.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestDamagedEStargzLayerIsNotServed(t *testing.T) {
	im, layer := stargzImage(t, rafs.V6)
	layer[5000] ^= 1 // in the random file
	store, err := NewStore(opener.Local(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.Open(im, backendtest.Memory{"layer": layer}, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(c.Close(), store.Close()) }()
	refused := 0
	var r Reader
	files(t, im, func(n *rafs.Inode) {
		spans, err := n.AppendSpans(nil, 0, n.Size())
		if err != nil {
			t.Fatal(err)
		}
		p, err := readAll(t.Context(), c, &r, spans)
		if err != nil {
			refused++
			return
		}
		if len(p) == 70_000 {
			t.Error("damaged data was served")
		}
	})
	if refused != 1 {
		t.Errorf("%d files refused, want the damaged one", refused)
	}
}
