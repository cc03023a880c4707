package devfuse_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// TestKernelReadAllocatesNothing reads past the page cache, so that each read is a
// request through /dev/fuse.
func TestKernelReadAllocatesNothing(t *testing.T) {
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd})
	m := mountImage(t, im, fusesrvtest.StackOptions{})
	path := largest(t, m.Dir())
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const size, runs = 64 << 10, 200
	buf := make([]byte, size)
	read := func() {
		if n, err := unix.Pread(fd, buf, 0); n != size || err != nil {
			t.Fatalf("read %d bytes of %s: %v", n, path, err)
		}
	}
	read() // fetches the chunk
	before := m.reads()
	if n := testing.AllocsPerRun(runs, read); n != 0 {
		t.Errorf("got %v allocations per read, want 0", n)
	}
	if got := m.reads() - before; got < runs {
		t.Errorf("%d reads came to the server, want %d", got, runs)
	}
}

// reads is how many READs were answered.
func (m *mount) reads() uint64 { return m.stack.Tree.Mounts()[0].Stats.Totals().Hits[fusesrv.OpRead] }

// largest gives the path of a file with much data in it.
func largest(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "sizes", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	var best string
	var size int64
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Lstat(f, &st); err == nil && st.Size > size {
			best, size = f, st.Size
		}
	}
	return best
}
