package bench

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vrafs/build"
	"vrafs/rafs"
	"vrafs/vhostuser/vhostusertest"
)

// A million files of one directory each thousand, and the big file.
const (
	millionDirs  = 1000
	millionFiles = 1000 // per directory
)

// millionImage builds an image of a million files out of a tar that is never on
// disk.
func millionImage(b *testing.B) *image {
	b.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeMillion(w)) }()
	dir := b.TempDir()
	blobs := filepath.Join(dir, "blobs")
	if err := os.Mkdir(blobs, 0o755); err != nil {
		b.Fatal(err)
	}
	boot := filepath.Join(dir, "image.boot")
	_, err := build.Build(b.Context(), build.Stream(build.TypeTar, r, "million"), build.Sink{Bootstrap: boot, BlobDir: blobs},
		build.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4, SkipCheck: true})
	if err != nil {
		b.Fatal(err)
	}
	return configure(b, boot, blobs)
}

func writeMillion(w io.Writer) error {
	t := tar.NewWriter(w)
	for d := range millionDirs {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%03d/", d), Mode: 0o755}); err != nil {
			return err
		}
		for f := range millionFiles {
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%03d/file-%03d", d, f), Mode: 0o644}); err != nil {
				return err
			}
		}
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: bigFile, Mode: 0o644, Size: bigBytes}); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for i := range bigBytes >> 20 {
		for k := range block {
			block[k] = byte(k*i) ^ byte(k>>8)
		}
		if _, err := t.Write(block); err != nil {
			return err
		}
	}
	return t.Close()
}

// BenchmarkMemory shows the private memory of the daemon with an image of a million
// files and eight busy queues: lookups and attributes all over the tree, and reads
// of 1 MiB that are fetched and decompressed at first.
func BenchmarkMemory(b *testing.B) {
	const busy = 8
	p := startVrafsd(b, millionImage(b), busy)
	first, err := vhostusertest.NewClient(p.guest.Ring(1), vhostusertest.ClientConfig{Depth: 1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := first.Init(vhostusertest.Init{Major: 7, Minor: 38, MaxReadahead: 1 << 20, Flags: 0x73fffffb}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var wg sync.WaitGroup
		peak, stop := uint64(0), make(chan struct{})
		go func() {
			for tick := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-stop:
					return
				case <-tick.C:
					if n, err := p.rssAnon(); err == nil {
						peak = max(peak, n)
					}
				}
			}
		}()
		for i := range busy {
			wg.Go(func() {
				if err := roam(p, i); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		stop <- struct{}{}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(peak)/(1<<20), "RssAnon-MiB")
		b.ReportMetric(40, "RssAnon-MiB-aim")
	}
}

// roam looks up 30,000 files from queue i, and reads the big file meanwhile.
func roam(p *peer, i int) error {
	c, err := vhostusertest.NewClient(p.guest.Ring(1+i), vhostusertest.ClientConfig{Depth: 1})
	if err != nil {
		return err
	}
	big, err := c.Lookup(1, bigFile)
	if err != nil {
		return err
	}
	fh, err := open(c, big.Node, false)
	if err != nil {
		return err
	}
	for n := range 300 {
		dir, err := c.Lookup(1, fmt.Sprintf("d%03d", (n*7+i*131)%millionDirs))
		if err != nil {
			return err
		}
		for f := range 100 {
			e, err := c.Lookup(dir.Node, fmt.Sprintf("file-%03d", (f*31+n)%millionFiles))
			if err != nil {
				return err
			}
			if _, err := c.Getattr(e.Node); err != nil {
				return err
			}
		}
		if _, err := c.Read(big.Node, fh, uint64(n*5+i)<<20%bigBytes, 1<<20); err != nil {
			return err
		}
	}
	return nil
}
