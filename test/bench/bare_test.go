package bench

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser/vhostusertest"
)

// bare is the CPU time in µs of one preadv2 of size bytes from the page cache
// into guest memory, over as many buffers as a row of that depth has in flight:
// what no daemon can be below.
func bare(b *testing.B, path string, size, depth int, random bool) float64 {
	b.Helper()
	f, err := os.Open(path)
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
		bufs[i] = [][]byte{p}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	step := uint64(1)
	if random {
		step = 7919 // a prime: every piece once, none beside the one before
	}
	pieces, at, n := uint64(bigBytes/size), uint64(0), 0
	begin := threadCPU()
	for end := time.Now().Add(slice / 2); time.Now().Before(end); {
		for range 64 {
			at += step
			if _, err := unix.Preadv2(int(f.Fd()), bufs[n%depth], int64(at%pieces*uint64(size)), unix.RWF_NOWAIT); err != nil {
				b.Fatal(err)
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
