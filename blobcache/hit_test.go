package blobcache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// part gives the bytes from..from+n of a chunk.
func part(s *sample, blob, chunk int, from uint64, n uint32) rafs.Span {
	sp := s.spans[blob][chunk]
	sp.Off += from
	sp.Len = n
	return sp
}

// patterns are reads over two blobs: contiguous, scattered, going back and forth.
func patterns(s *sample) map[string][]rafs.Span {
	return map[string][]rafs.Span{
		"one byte":        {part(s, 0, 3, 77, 1)},
		"a page":          {part(s, 0, 1, 4096, 4096)},
		"one whole chunk": {s.spans[0][2]},
		"a run":           s.spans[0][1:5],
		"above 128 KiB":   {s.spans[0][0], s.spans[0][1], s.spans[0][2]},
		"both blobs":      {part(s, 0, 5, 100, 60_000), s.spans[1][0], part(s, 0, 5, 0, 100), part(s, 1, 4, 9, 9)},
		"the same twice":  {s.spans[1][1], s.spans[1][1], s.spans[1][2]},
		"backwards":       {s.spans[0][5], s.spans[0][4], s.spans[0][3]},
	}
}

// TestReadTable is the table of all that a read can find: what is known of the chunks,
// what the page cache has, what is read, and where a system call comes short.
func TestReadTable(t *testing.T) {
	const chunk = 65536
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(6, chunk)}, blobSpec{id: "two", sizes: sizes(6, 8192), digester: rafs.DigesterSHA256})
	states := map[string]func(e *env){
		"verified":    func(e *env) { e.check(e.all()) },
		"missing":     func(*env) {},
		"foreign bit": func(e *env) { foreign(t, e, func(p []byte) {}) },
		"lying bit":   func(e *env) { foreign(t, e, func(p []byte) { p[len(p)/2] ^= 1 }) },
		"empty bit":   func(e *env) { foreign(t, e, func(p []byte) { clear(p) }) },
	}
	pages := map[string]func(e *env){
		"cached":      func(e *env) {},
		"half cached": func(e *env) { e.evict(); e.touch(chunk / 2) },
		"cold":        func(e *env) { e.evict() },
	}
	for state, prepare := range states {
		for page, arrange := range pages {
			for name, spans := range patterns(s) {
				if testing.Short() && name != "both blobs" {
					continue
				}
				t.Run(state+"/"+page+"/"+name, func(t *testing.T) {
					testReadCuts(t, s, spans, prepare, arrange)
				})
			}
		}
	}
}

// testReadCuts reads spans with every system call in turn coming short.
func testReadCuts(t *testing.T, s *sample, spans []rafs.Span, prepare, arrange func(*env)) {
	want := s.bytes(spans)
	calls := 6
	if testing.Short() {
		calls = 1
	}
	for call := range calls {
		for _, keep := range []func(uint64) uint64{
			func(uint64) uint64 { return 0 },
			func(n uint64) uint64 { return n / 2 },
			func(n uint64) uint64 { return n - 1 },
		} {
			e := newEnv(t, s, t.TempDir(), Options{Workers: 1}, nil)
			prepare(e)
			arrange(e)
			calls, zeros := 0, 0
			e.r.cut = func(n uint64) uint64 {
				if calls++; calls-1 == call {
					n = keep(n)
				}
				if n == 0 {
					zeros++
				}
				return n
			}
			got, err := readAll(t.Context(), e.cache, &e.r, spans)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("call %d short: %v, right bytes: %v", call, err, bytes.Equal(got, want))
			}
			e.close()
			if calls <= call {
				return
			}
		}
	}
}

// foreign fills the cache directory as another program would: data, which change
// may spoil, and bits, but no proof. It then opens the directory anew.
func foreign(t *testing.T, e *env, change func(p []byte)) {
	t.Helper()
	e.check(e.all())
	e.close()
	for i, b := range e.im.Blobs() {
		path := filepath.Join(e.dir, b.ID)
		if err := os.Remove(path + sidecarSuffix); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path+dataSuffix, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for k, sp := range e.spans[i] {
			p := bytes.Clone(e.data[i][k])
			change(p)
			if _, err := f.WriteAt(p, int64(sp.Off)); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
	*e = *newEnv(t, e.sample, e.dir, Options{Workers: 1}, nil)
}

// evict drops the data files from the page cache.
func (e *env) evict() {
	e.t.Helper()
	e.eachData(func(f *os.File) error {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, all); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// touch brings every second piece of step bytes into the page cache.
func (e *env) touch(step int64) {
	e.t.Helper()
	e.eachData(func(f *os.File) error {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
			return err
		}
		for off := int64(0); off < 6*65536; off += 2 * step {
			if _, err := f.ReadAt(make([]byte, 4096), off); err != nil {
				break
			}
		}
		return nil
	})
}

func (e *env) eachData(do func(f *os.File) error) {
	e.t.Helper()
	for _, b := range e.im.Blobs() {
		f, err := os.OpenFile(filepath.Join(e.dir, b.ID+dataSuffix), os.O_RDWR, 0)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = do(f)
			f.Close()
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

func TestTryReadNeverWaitsForTheDisk(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(8, 1<<20)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	for _, spans := range [][]rafs.Span{s.spans[0], {part(s, 0, 1, 0, 4096)}} {
		e.evict() // each time: the look at cold pages may begin to read them
		n, err := e.cache.TryRead(&e.r, spans, uneven(make([]byte, 8<<20)))
		if err != ErrMiss || n != 0 {
			t.Errorf("read of cold pages: %d, %v", n, err)
		}
	}
	e.check(s.all())
	e.hit(s.all())
}

func TestReadIntoVanishedMemoryIsEFAULT(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(2, 8192)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	mem, err := unix.Mmap(-1, 0, 8192, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	if _, err := e.cache.TryRead(&e.r, s.all()[:1], [][]byte{mem}); err != syscall.EFAULT {
		t.Errorf("TryRead: %v", err)
	}
	if _, err := e.cache.Read(&e.r, s.all()[:1], 0, [][]byte{mem}, nil); err != syscall.EFAULT {
		t.Errorf("Read: %v", err)
	}
}

func TestReadRefusesAShortDestination(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(2, 8192)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	if _, err := e.cache.TryRead(&e.r, s.all(), [][]byte{make([]byte, 100)}); err != ErrShort {
		t.Errorf("TryRead: %v", err)
	}
	if _, err := e.cache.Read(&e.r, s.all(), 200, [][]byte{make([]byte, 100)}, nil); err != ErrShort {
		t.Errorf("Read: %v", err)
	}
}

func TestTryReadTakesMoreBuffersThanOneCall(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(3, 1<<16)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	out := make([]byte, 3<<16)
	var dst [][]byte
	for i := 0; i < len(out); i += 64 {
		dst = append(dst, out[i:i+64], nil)
	}
	if n, err := e.cache.TryRead(&e.r, s.all(), dst); err != nil || n != len(out) || !bytes.Equal(out, s.bytes(s.all())) {
		t.Errorf("%d bytes in %d buffers: %d, %v", len(out), len(dst), n, err)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 1<<20)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	out := make([]byte, 1<<20)
	for _, size := range []int{4096, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			spans := []rafs.Span{part(s, 0, 2, 0, uint32(size))}
			var dst [][]byte
			for i := 0; i < size; i += 4096 {
				dst = append(dst, out[i:i+4096])
			}
			var err error
			if n := testing.AllocsPerRun(100, func() { _, err = e.cache.TryRead(&e.r, spans, dst) }); n != 0 || err != nil {
				t.Errorf("%v allocations, %v", n, err)
			}
		})
	}
}
