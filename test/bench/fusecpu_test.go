package bench

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// BenchmarkFuseCPU measures what a request through /dev/fuse costs the serving
// process, ours and one on go-fuse's raw level, in turn. Each operation is exactly
// one request: a name that the kernel does not know, or a read past its page cache.
func BenchmarkFuseCPU(b *testing.B) {
	testenv.Need(b, testenv.Root, testenv.FUSE)
	dir := b.TempDir()
	makeTree(b, dir)
	ours, theirs := startFuse(b, makeImage(b, dir)), startGoFuse(b, goFuseRaw, dir)
	for _, clients := range []int{1, 4} {
		for _, r := range []struct {
			name string
			prep func(*testing.B)
			run  func(m *mounted, client, clients int) (uint64, error)
		}{
			{"lookup", drop, lookups},
			{"read4k", nil, directReads(4 << 10)},
			{"read128k", nil, directReads(128 << 10)},
		} {
			b.Run(fmt.Sprintf("%s/clients=%d", r.name, clients), func(b *testing.B) {
				c := &comparison{}
				for range rounds {
					c.add(ours.load(b, clients, r.prep, r.run), theirs.load(b, clients, r.prep, r.run))
				}
				c.report(b, "gofuse")
			})
		}
	}
}

// load runs clients at once and measures them together.
func (m *mounted) load(b *testing.B, clients int, prep func(*testing.B), run func(*mounted, int, int) (uint64, error)) figure {
	b.Helper()
	if prep != nil {
		prep(b)
	}
	f, err := m.measure(func() (uint64, error) {
		counts, errs := make([]uint64, clients), make([]error, clients)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { counts[i], errs[i] = run(m, i, clients) })
		}
		wg.Wait()
		return total(counts, errs)
	})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// lookups asks for every small file of the client's directories by name.
func lookups(m *mounted, client, clients int) (n uint64, err error) {
	var st unix.Stat_t
	for d := client; d < dirs; d += clients {
		for f := range perDir {
			path := filepath.Join(m.dir, fmt.Sprintf("d%02d", d), fmt.Sprintf("file-%03d.conf", f))
			if err := unix.Lstat(path, &st); err != nil {
				return n, fmt.Errorf("%s: %w", path, err)
			}
			n++
		}
	}
	return n, nil
}

// directReads reads pieces of the big file at random places.
func directReads(size int) func(*mounted, int, int) (uint64, error) {
	return func(m *mounted, client, _ int) (uint64, error) {
		fd, err := unix.Open(filepath.Join(m.dir, bigFile), unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return 0, err
		}
		defer func() { _ = unix.Munmap(buf) }()
		r := rand.New(rand.NewPCG(uint64(client), 1))
		const reads = 5000
		for range reads {
			if n, err := unix.Pread(fd, buf, r.Int64N(bigBytes/int64(size))*int64(size)); n != size || err != nil {
				return 0, fmt.Errorf("read of %d bytes gave %d: %w", size, n, err)
			}
		}
		return reads, nil
	}
}
