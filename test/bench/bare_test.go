package bench

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser/vhostusertest"
)

// A floor is the CPU time in µs of one bare call that does what a row's request asks
// for, over as many buffers in guest memory as the row has in flight: what no daemon can
// be below.
type floor func(b *testing.B, r *row, path string) float64

// bareReads are preadv2s from the page cache.
func bareReads(b *testing.B, r *row, path string) float64 {
	b.Helper()
	flags := unix.RWF_NOWAIT
	return bare(b, path, r.room, r.depth, r.random, func(fd int, buf [][]byte, at int64) (int, error) {
		n, err := unix.Preadv2(fd, buf, at, flags)
		if err == unix.EOPNOTSUPP { // tmpfs
			flags = 0
			return unix.Preadv2(fd, buf, at, flags)
		}
		return n, err
	})
}

// bareWrites are pwritev2s of size bytes.
func bareWrites(size int) floor {
	return func(b *testing.B, r *row, path string) float64 {
		b.Helper()
		return bare(b, path, size, r.depth, r.random, func(fd int, buf [][]byte, at int64) (int, error) {
			return unix.Pwritev2(fd, buf, at, 0)
		})
	}
}

func bare(b *testing.B, path string, size, depth int, random bool, do func(fd int, buf [][]byte, at int64) (int, error)) float64 {
	b.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	g, err := vhostusertest.NewGuest(vhostusertest.GuestConfig{MemSize: depth*size + 16<<20})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	bufs := make([][][]byte, depth)
	for i := range bufs {
		_, p, err := g.Alloc(size)
		if err != nil {
			b.Fatal(err)
		}
		for at := 0; at < size; at += 4096 {
			p[at] = 1 // pages that are there, as a daemon finds them
		}
		bufs[i] = [][]byte{p}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	step := uint64(1)
	if random {
		step = 7919 // a prime: every piece once, none beside the one before
	}
	fd := int(f.Fd())
	pieces, at, n := uint64(bigBytes/size), uint64(0), 0
	begin := threadCPU()
	for end := time.Now().Add(slice / 2); time.Now().Before(end); {
		for range 64 {
			at += step
			if got, err := do(fd, bufs[n%depth], int64(at%pieces*uint64(size))); err != nil || got != size {
				b.Fatalf("%d bytes, %v", got, err)
			}
			n++
		}
	}
	return float64((threadCPU() - begin).Nanoseconds()) / float64(n) / 1000
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail for the own thread
	return time.Duration(ts.Nano())
}
