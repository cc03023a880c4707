package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/vhostuser/vhostusertest"
)

const (
	coldFile  = "cold"
	coldBytes = 3 << 30
	warm      = 25_000 // requests per queue
	queues    = 4
)

// makeCold writes the file that keeps the decompressors busy: lines of text, so
// that a chunk costs as much as those of real files.
func makeCold(b *testing.B, dir string) {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, coldFile))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1<<20+128)
	for n, line := 0, 0; n < coldBytes; n += len(buf) {
		for buf = buf[:0]; len(buf) < 1<<20; line++ {
			buf = fmt.Appendf(buf, "%08x request %d of %x took %d us\n", line*2654435761, line, line*40503, line%977)
		}
		buf = buf[:min(len(buf), coldBytes-n)]
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLatency shows how long a warm read of 4 KiB on one of four queues takes
// at worst while the decompressors of the daemon are busy with a cold file, which
// is read on a fifth. The clients share the machine's cores with the daemon, so
// their own waiting for a core is in the figures.
//
// Each client gets a P of its own, as each queue of the daemon has: with fewer, a
// client that wakes up waits up to 20 ms for the runtime to take one from another,
// and that is all the figure would show.
func BenchmarkLatency(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*queues + 2))
	dir := b.TempDir()
	makeTree(b, dir)
	makeCold(b, dir)
	p := startVrafsd(b, makeImage(b, dir), queues+1)
	first, err := vhostusertest.NewClient(p.guest.Ring(1), vhostusertest.ClientConfig{Depth: 1})
	if err != nil {
		b.Fatal(err)
	}
	t, err := scan(first)
	if err != nil {
		b.Fatal(err)
	}
	cold, err := first.Lookup(1, coldFile)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		quiet := latencies(b, p, t)
		stop, done := atomic.Bool{}, make(chan int64)
		go func() { done <- burn(b, p, cold, &stop) }()
		busy := latencies(b, p, t)
		stop.Store(true)
		read := <-done
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(read>>20), "cold-MiB")
		for name, all := range map[string][]time.Duration{"idle": quiet, "busy": busy} {
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
			b.ReportMetric(float64(all[len(all)*999/1000].Microseconds()), name+"-p99.9-µs")
			b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, name+"-max-ms")
		}
	}
}

// latencies sends warm reads on the four queues, one at a time on each, and gives
// how long each took.
func latencies(b *testing.B, p *peer, t *tree) []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for i := range queues {
		wg.Go(func() {
			c, err := vhostusertest.NewClient(p.guest.Ring(1+i), vhostusertest.ClientConfig{Depth: 1, MaxRoom: 4096})
			if err != nil {
				b.Error(err)
				return
			}
			mine := make([]time.Duration, 0, warm)
			var q vhostusertest.Request
			for f := random(4096)(t, uint64(i)); len(mine) < warm; {
				f.next(&q)
				begin := time.Now()
				if _, err := c.Do(&q); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(begin))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	wg.Wait()
	return all
}

// burn reads the cold file, several pieces at once, until stopped or at its end,
// and gives the bytes read.
func burn(b *testing.B, p *peer, f vhostusertest.Entry, stop *atomic.Bool) (n int64) {
	const depth = 8
	c, err := vhostusertest.NewClient(p.guest.Ring(1+queues), vhostusertest.ClientConfig{Depth: depth})
	if err != nil {
		b.Error(err)
		return 0
	}
	fh, err := open(c, f.Node, false)
	if err != nil {
		b.Error(err)
		return 0
	}
	flight := 0
	for off := uint64(0); off < f.Attr.Size && !stop.Load(); off += 1 << 20 {
		if _, err := c.Send(&vhostusertest.Request{Op: opRead, Node: f.Node, Args: vhostusertest.ReadArgs(fh, off, 1<<20), Room: 1 << 20}); err != nil {
			b.Error(err)
			return n
		}
		if flight++; flight < depth {
			continue
		}
		if err := c.Ring.Kick(); err != nil {
			b.Error(err)
			return n
		}
		r, err := c.Recv()
		if err != nil || r.Errno != 0 {
			b.Error(err, r.Errno)
			return n
		}
		flight--
		n += int64(len(r.Body))
	}
	for ; flight > 0; flight-- {
		r, err := c.Recv()
		if err != nil {
			b.Error(err)
			return n
		}
		n += int64(len(r.Body))
	}
	return n
}
