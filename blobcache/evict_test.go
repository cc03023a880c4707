package blobcache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// readers read and compare random chunks until stop is called, which gives their number.
func readers(t *testing.T, e *env, n int) (stop func() int) {
	t.Helper()
	var end atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	spans := e.all()
	for range n {
		wg.Go(func() {
			var r Reader
			for !end.Load() {
				s := spans[rand.IntN(len(spans))]
				got, err := readAll(t.Context(), e.cache, &r, []rafs.Span{s})
				if err == ErrMiss { // evicted again and again
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(got, e.bytes([]rafs.Span{s})) {
					t.Error("wrong bytes")
					return
				}
				reads.Add(1)
			}
		})
	}
	return func() int {
		end.Store(true)
		wg.Wait()
		return int(reads.Load())
	}
}

// onlyFile gives the only open blob of a store.
func onlyFile(t *testing.T, s *Store) *blobFile {
	t.Helper()
	files := s.borrow()
	s.giveBack(files)
	for _, b := range files {
		return b
	}
	t.Fatal("no blob is open")
	return nil
}

func TestEvictionUnderReadersShowsNoZeros(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(100, 70_001), comp: rafs.CompressorLZ4})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	b := onlyFile(t, e.store)
	stop := readers(t, e, 4)
	freed := uint64(0)
	for range testenv.Rounds(2000) {
		n, err := e.store.evictCold(b)
		if err != nil {
			t.Fatal(err)
		}
		freed += n
	}
	reads := stop()
	t.Logf("%d reads, %d MiB evicted", reads, freed>>20)
	if freed == 0 || reads == 0 {
		t.Error("nothing was evicted or nothing read: the test shows nothing")
	}
	e.check(s.all())
}

// TestEvictionDuringAReadIsAMiss evicts between the look at the marks and the read.
func TestEvictionDuringAReadIsAMiss(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 65536), comp: rafs.CompressorZstd})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	spans := s.all()
	for name, read := range map[string]func(*Reader, [][]byte) (int, error){
		"TryRead": func(r *Reader, dst [][]byte) (int, error) { return e.cache.TryRead(r, spans, dst) },
		"Read":    func(r *Reader, dst [][]byte) (int, error) { return e.cache.Read(r, spans, 0, dst, nil) },
	} {
		e.check(spans)
		r := Reader{cut: func(size uint64) uint64 {
			for range 2 {
				if _, err := e.store.evictCold(onlyFile(t, e.store)); err != nil {
					t.Error(err)
				}
			}
			return size
		}}
		if n, err := read(&r, [][]byte{make([]byte, 16*65536)}); n != 0 || err != ErrMiss {
			t.Errorf("%s: %d bytes, %v, want a miss", name, n, err)
		}
	}
}

func TestEvictionKeepsWhatWasRead(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 65536), comp: rafs.CompressorZstd})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	spans := s.all()
	e.check(spans)
	b := onlyFile(t, e.store)
	for range 2 { // the first takes the marks of use off
		if _, err := e.store.evictCold(b); err != nil {
			t.Fatal(err)
		}
		e.hit(spans[3:5])
	}
	var r Reader
	for i := range spans {
		_, err := e.cache.TryRead(&r, spans[i:i+1], [][]byte{make([]byte, spans[i].Len)})
		if want := i != 3 && i != 4; (err == ErrMiss) != want {
			t.Errorf("chunk %d: %v", i, err)
		}
		if (b.side.read(spans[i].Index) == proof{}) != (err == ErrMiss) || b.cmap.has(spans[i].Index) != (err == nil) {
			t.Errorf("chunk %d: proof or bit differ from the data", i)
		}
	}
	e.check(spans)
}

func TestFilesInUseAreNotEvicted(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 65536), comp: rafs.CompressorZstd})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	other, err := os.Open(filepath.Join(dir, "one"+dataSuffix))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(other.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range []string{"open", "mapped"} {
		if _, err := e.store.evictCold(onlyFile(t, e.store)); !errors.Is(err, ErrInUse) {
			t.Errorf("%s elsewhere: %v", use, err)
		}
		if _, err := Evict(opener.Local(), dir, "one"); !errors.Is(err, ErrInUse) {
			t.Errorf("%s elsewhere: %v", use, err)
		}
		other.Close() // the mapping stays
	}
	e.hit(s.all())
	if err := unix.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	e.close()
	if freed, err := Evict(opener.Local(), dir, "one"); err != nil || freed < 16*65536 {
		t.Errorf("idle blob: %d bytes freed, %v", freed, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A latecomer is an opener that makes a map and opens the data, as a nydusd does, as soon
// as a blob's map has no name.
type latecomer struct {
	opener.Opener
	path string // of the blob's files without a suffix
	data *os.File
}

func (l *latecomer) Remove(path string) error {
	err := l.Opener.Remove(path)
	if path == l.path+mapSuffix && err == nil {
		if err = os.WriteFile(path, nil, 0o644); err == nil {
			l.data, err = l.Opener.Open(l.path+dataSuffix, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o644)
		}
	}
	return err
}

// TestNewMapIsNotOfEvictedData evicts while a nydusd comes: the data file that it opens
// after it made a map must be the one that others find, too.
func TestNewMapIsNotOfEvictedData(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 5000)})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	e.close()
	l := &latecomer{Opener: opener.Local(), path: filepath.Join(dir, "one")}
	if _, err := Evict(l, dir, "one"); err != nil {
		t.Fatal(err)
	}
	defer l.data.Close()
	fi, err := l.data.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !named(l, l.path+dataSuffix, fi) {
		t.Error("there is a new map, but its data have no name")
	}
}

// limitOf makes a limit that ends with the test, after its stores.
func limitOf(t *testing.T, max uint64, dirs ...string) *Limit {
	l := NewLimit(opener.Local(), max, nil, dirs...)
	t.Cleanup(l.Close)
	return l
}

// TestLimitIsKept reads images through a cache that is too small for them.
func TestLimitIsKept(t *testing.T) {
	const limit = 6 << 20
	var specs []blobSpec
	for _, id := range []string{"a", "b", "c", "d"} {
		specs = append(specs, blobSpec{id: id, sizes: sizes(40, 100_000), comp: rafs.CompressorLZ4})
	}
	s, idle := makeSample(t, specs[:3]...), makeSample(t, specs[3])
	dir := t.TempDir()
	first := newEnv(t, idle, dir, Options{}, nil)
	first.check(idle.all())
	first.close()
	e := newEnv(t, s, dir, Options{Limit: limitOf(t, limit)}, nil)
	stop := readers(t, e, 4)
	most := uint64(0)
	for range testenv.Rounds(300) {
		most = max(most, diskUse(t, dir, ""))
		<-time.After(10 * time.Millisecond)
	}
	n := stop()
	u := e.store.limit.Usage()
	t.Logf("%d reads, %d KiB at most of %d, %d KiB evicted", n, most>>10, limit>>10, u.Evicted>>10)
	if n == 0 {
		t.Error("nothing was read: the test shows nothing")
	}
	if most > limit {
		t.Errorf("%d bytes with a limit of %d", most, limit)
	}
	if u.Evicted < idle.im.Blobs()[0].UncompressedSize {
		t.Errorf("%d bytes evicted, less than the idle blob has", u.Evicted)
	}
	if _, err := os.Stat(filepath.Join(dir, "d"+dataSuffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the idle blob is still there: %v", err)
	}
	e.check(s.all())
}

// TestOneLimitHoldsOverSeveralDirectories fills two directories in turn: what one needs
// is evicted in the other, whether a store has it open or only has left it there.
func TestOneLimitHoldsOverSeveralDirectories(t *testing.T) {
	const limit = 6 << 20
	root := t.TempDir()
	l := limitOf(t, limit, filepath.Join(root, "left"))
	open := func(dir, id string) *env {
		s := makeSample(t, blobSpec{id: id, sizes: sizes(50, 100_000), comp: rafs.CompressorLZ4})
		return newEnv(t, s, filepath.Join(root, dir), Options{Limit: l}, nil)
	}
	left, a, b := open("left", "a"), open("one", "b"), open("two", "c")
	left.check(left.all())
	left.close()
	l.mu.Lock()
	l.measure()
	full := l.used.Load()
	l.mu.Unlock()
	if full < limit/2 {
		t.Fatalf("%d bytes in a directory without a store", full)
	}
	for range 3 {
		for _, e := range []*env{a, b} {
			e.check(e.all())
			l.pass()
			if n := diskUse(t, root, "left", "one", "two"); n > limit {
				t.Fatalf("%d bytes with a limit of %d", n, limit)
			}
		}
	}
	if n := diskUse(t, root, "left"); n != 0 {
		t.Errorf("%d bytes are left that nobody uses", n)
	}
	if u := l.Usage(); u.Evicted < 10<<20 || u.Limit != limit {
		t.Errorf("%+v", u)
	}
}

// TestLimitsOfOneDirectoryAddUp: several processes that keep to a limit keep to it
// together, however evenly they store. A Limit stands for a process here.
func TestLimitsOfOneDirectoryAddUp(t *testing.T) {
	const limit = 6 << 20
	dir := t.TempDir()
	var all []*env
	for _, id := range []string{"a", "b", "c"} {
		s := makeSample(t, blobSpec{id: id, sizes: sizes(50, 100_000), comp: rafs.CompressorLZ4})
		all = append(all, newEnv(t, s, dir, Options{Limit: limitOf(t, limit)}, nil))
	}
	for i := range 50 {
		for _, e := range all {
			e.check(e.all()[i : i+1])
			if n := diskUse(t, filepath.Dir(dir), filepath.Base(dir)); n > limit {
				t.Fatalf("%d bytes with a limit of %d", n, limit)
			}
		}
	}
	for _, e := range all {
		if st := e.cache.Stats(); st.Entries < 10 {
			t.Errorf("%d chunks were stored", st.Entries)
		}
	}
}

// diskUse gives the bytes of the blobs in directories below root.
func diskUse(t *testing.T, root string, dirs ...string) (n uint64) {
	t.Helper()
	for _, dir := range dirs {
		list, err := Survey(opener.Local(), filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range list {
			n += u.Bytes
		}
	}
	return n
}

// TestEvictionHarmsNoNydusd lets processes in a nydusd's manner serve from the
// directory, by descriptor and by mapping, while we read, and evict whenever none of
// them has the file open.
func TestEvictionHarmsNoNydusd(t *testing.T) {
	testenv.Long(t)
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(100, 20_000), comp: rafs.CompressorLZ4})
	imageDir, dir := writeImage(t, s), t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	for _, what := range []string{childNydusd, childMapper} {
		cmd, out := startChild(t, what, imageDir, dir)
		stop := readers(t, e, 2)
		b, freed, busy := onlyFile(t, e.store), uint64(0), 0
		least := testenv.Rounds(1000) // more if chance would have it that one outcome is missing
		for i := 0; i < least || i < 10*least && (freed == 0 || busy == 0); i++ {
			for range 50 { // at every moment of the other's life
				n, err := e.store.evictCold(b)
				freed += n
				switch {
				case errors.Is(err, ErrInUse):
					busy++
				case err != nil:
					t.Fatal(err)
				}
			}
			rounds(t, cmd, out, 1)
		}
		reads := stop()
		t.Logf("%s: %d reads of ours, %d KiB evicted, refused %d times", what, reads, freed>>10, busy)
		if freed == 0 || busy == 0 || reads == 0 {
			t.Error("always or never in use, or nothing read: the test shows nothing")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
