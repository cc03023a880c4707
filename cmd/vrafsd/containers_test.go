package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testimage"
	"vrafs/internal/teststore"
	"vrafs/rafs"
)

// sums gives the SHA-256 of every file below a directory that is not huge, as programs of
// the host see them.
func sums(dir string) (string, error) {
	cmd := exec.Command("sh", "-c", "find . -type f -size -1000k -exec sha256sum {} + | sort")
	cmd.Dir = dir
	out, err := cmd.Output()
	return string(out), err
}

// manyFiles makes a directory of random files, some of which are in each that is made of
// the same seed.
func manyFiles(t *testing.T, seed byte) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 30 {
		own := byte(i % 3)
		if own > 0 {
			own = seed
		}
		data := make([]byte, 1+i*7001)
		_, _ = rand.NewChaCha8([32]byte{byte(i), own}).Read(data)
		sub := filepath.Join(dir, fmt.Sprint("d", i%4))
		if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, fmt.Sprint("f", i)), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFiftyContainersReadCold, ten of each of five images, out of one registry, by one
// daemon: no error, no wrong byte, and what ten want is fetched once.
func TestFiftyContainersReadCold(t *testing.T) {
	h, cache := newHost(t), t.TempDir()
	p := h.fuse(t, h.api).ready()
	kind := teststore.Find(t, "registry with tokens")
	var readers sync.WaitGroup
	begin, stored := make(chan struct{}), 0.0
	for i, o := range []testimage.Options{
		{Version: rafs.V6, Compressor: rafs.CompressorZstd},
		{Version: rafs.V6, Compressor: rafs.CompressorLZ4, Digester: rafs.DigesterSHA256},
		{Version: rafs.V5, Compressor: rafs.CompressorZstd},
		{Version: rafs.V5, ChunkSize: 64 << 10},
		{Version: rafs.V6, Compressor: rafs.CompressorZstd, BatchSize: 1 << 20},
	} {
		o.Source = manyFiles(t, byte(i))
		im := makeImage(t, o)
		want, err := sums(im.Tree)
		if err != nil || strings.Count(want, "\n") != 30 {
			t.Fatalf("%d files, %v", strings.Count(want, "\n"), err)
		}
		config := im.stored(kind.StartDir(t, im.BlobDir), cache)
		for k := range 10 {
			place := fmt.Sprintf("%d-%d", i, k)
			p.must(204, "POST", "/api/v1/mount?mountpoint=/"+place, im.mountBody(config))
			readers.Go(func() {
				<-begin
				if got, err := sums(filepath.Join(h.dir, place)); err != nil || got != want {
					t.Errorf("%s: %v, %d bytes of sums, want %d", place, err, len(got), len(want))
				}
			})
		}
		stored += im.blobBytes(t)
	}
	close(begin)
	readers.Wait()
	fetched := p.metricSum("vrafs_backend_bytes_total")
	t.Logf("%.1f MiB were fetched, of blobs of %.1f MiB", fetched/(1<<20), stored/(1<<20))
	if fetched < 0.9*stored || fetched > 1.2*stored {
		t.Error("that is not once")
	}
	p.eventually("vrafs_pending_requests 0", "/metrics")
	p.tookLittle()
}
