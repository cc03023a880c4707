package blobcache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/internal/scatter"
	"vrafs/rafs"
)

// benchEnv opens an image for a benchmark.
func benchEnv(b *testing.B, s *sample, opt Options) (*Store, *Cache) {
	b.Helper()
	store, err := NewStore(opener.Local(), opt)
	if err != nil {
		b.Fatal(err)
	}
	c, err := store.Open(s.im, s.blobs, ImageOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return store, c
}

func BenchmarkCachedRead4K(b *testing.B) { benchCachedRead(b, 4096) }
func BenchmarkCachedRead1M(b *testing.B) { benchCachedRead(b, 1<<20) }

// benchCachedRead reads at random places of 64 MiB in the page cache, in turn by
// TryRead, by a bare pread of the same file, and by a bare preadv2. Times are those of
// the thread's processor, which others on the machine disturb less.
func benchCachedRead(b *testing.B, size uint32) {
	s := makeSample(b, blobSpec{id: "one", sizes: sizes(64, 1<<20)})
	dir := b.TempDir()
	store, c := benchEnv(b, s, Options{Dir: dir})
	defer store.Close()
	defer c.Close()
	if err := c.Fetch(b.Context(), s.all(), nil); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "one"+dataSuffix))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	var r Reader
	buf := make([]byte, size)
	dst := [][]byte{buf}
	spans := make([]rafs.Span, 1)
	places := make([]rafs.Span, 256)
	for i := range places {
		off := uint64(0)
		if size < 1<<20 {
			off = uint64(rand.Uint32N(256)) * 4096
		}
		places[i] = part(s, 0, rand.IntN(64), off, size)
	}
	whole := scatter.At(dst)
	iov, _ := whole.Vectors(nil, uint64(size))
	var ours, bare, vector time.Duration
	b.SetBytes(int64(size))
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := 0
	for b.Loop() {
		ours += threadTime(func() {
			for i := range places {
				spans[0] = places[i]
				if _, err := c.TryRead(&r, spans, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
		bare += threadTime(func() {
			for i := range places {
				if _, err := unix.Pread(fd, buf, int64(places[i].Off)); err != nil {
					b.Fatal(err)
				}
			}
		})
		vector += threadTime(func() {
			for i := range places {
				if _, errno := scatter.Read(fd, iov, places[i].Off, unix.RWF_NOWAIT); errno != 0 {
					b.Fatal(errno)
				}
			}
		})
		n += len(places)
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(n) }
	b.ReportMetric(per(ours), "ns/read")
	b.ReportMetric(per(bare), "ns/pread")
	b.ReportMetric(per(vector), "ns/preadv2")
	b.ReportMetric(per(ours)/per(bare), "x-pread")
	b.ReportMetric(per(ours)/per(vector), "x-preadv2")
}

// BenchmarkColdDelivery fetches, decodes, verifies and stores chunks with one worker,
// after a first one that opened the files, in turn with the bare loop of decompression and digest over the same
// chunks, and with writing as much to a file. The ratios are those of
// processor time, so the inverse of what one core delivers. Storing is part of ours, not of the loop.
func BenchmarkColdDelivery(b *testing.B) {
	for _, spec := range []blobSpec{
		{comp: rafs.CompressorLZ4},
		{comp: rafs.CompressorZstd},
		{comp: rafs.CompressorZstd, digester: rafs.DigesterSHA256},
	} {
		b.Run(fmt.Sprintf("%v-%v", spec.comp, spec.digester), func(b *testing.B) {
			spec.id, spec.sizes = "one", sizes(32, 1<<20)
			benchDelivery(b, makeSample(b, spec))
		})
	}
}

func benchDelivery(b *testing.B, s *sample) {
	index, err := s.im.BuildIndex(0, make([]byte, s.im.IndexBytes(0)))
	if err != nil {
		b.Fatal(err)
	}
	blob := &s.im.Blobs()[0]
	var dec codec.Decoder
	out := make([]byte, 1<<20)
	loop := func() {
		for i := range index.Len() - 1 {
			c, _ := index.Chunk(rafs.ChunkIndex(i + 1))
			stored := s.blobs["one"][c.CompressedOff:][:c.CompressedSize]
			if err := dec.Decompress(out, stored, blob.Compressor); err != nil || codec.Sum(blob.Digester, out) != c.Digest {
				b.Fatal(err)
			}
		}
	}
	store := func(dir string) {
		f, err := os.Create(filepath.Join(dir, "data"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for i := range index.Len() - 1 {
			c, _ := index.Chunk(rafs.ChunkIndex(i + 1))
			if _, err := f.WriteAt(out, int64(c.Off)); err != nil {
				b.Fatal(err)
			}
		}
	}
	var ours, bare, storing usage
	const count = 32
	b.SetBytes((count - 1) << 20)
	root := b.TempDir()
	for b.Loop() {
		dir := filepath.Join(root, "cache")
		cache, c := benchEnv(b, s, Options{Dir: dir, Workers: 1})
		err := c.Fetch(b.Context(), s.all()[:1], nil) // opens files, loads tables
		ours.add(func() { err = errors.Join(err, c.Fetch(b.Context(), s.all()[1:], nil)) })
		if err := errors.Join(err, c.Close(), cache.Close(), os.RemoveAll(dir)); err != nil {
			b.Fatal(err)
		}
		bare.add(loop)
		storing.add(func() { store(root) })
	}
	b.ReportMetric(float64(ours.cpu)/float64(bare.cpu), "x-loop")
	b.ReportMetric(float64(ours.cpu)/float64(bare.cpu+storing.cpu), "x-loop+write")
	b.ReportMetric(float64(ours.wall)/float64(bare.wall+storing.wall), "x-loop+write-wall")
	b.ReportMetric(ours.cpu.Seconds()*1e3/(count-1)/float64(b.N), "cpu-ms/MiB")
}

// A usage is time that was spent.
type usage struct{ cpu, wall time.Duration }

func (u *usage) add(f func()) {
	before, begin := clock(unix.CLOCK_PROCESS_CPUTIME_ID), time.Now()
	f()
	u.cpu += clock(unix.CLOCK_PROCESS_CPUTIME_ID) - before
	u.wall += time.Since(begin)
}

// threadTime is the processor time that f takes on a locked thread.
func threadTime(f func()) time.Duration {
	before := clock(unix.CLOCK_THREAD_CPUTIME_ID)
	f()
	return clock(unix.CLOCK_THREAD_CPUTIME_ID) - before
}

func clock(id int32) time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts)
	return time.Duration(ts.Nano())
}
