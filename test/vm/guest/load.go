package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// A load is readers that run beside the commands.
type load struct {
	dir    string
	files  []testtree.Entry
	digest func(path string) (string, error)
	stop   atomic.Bool
	wg     sync.WaitGroup

	count, bytes atomic.Int64
	mu           sync.Mutex
	errs         []string
}

var running *load

var errNoLoad = errors.New("no load is running")

const loadFileLimit = 4 << 20 // bytes; larger files would make the rounds too long

func doLoadStart(a guestapi.LoadArgs) (nothing, error) {
	if running != nil {
		return nothing{}, errors.New("a load is running")
	}
	entries, err := readManifest(a.Manifest)
	if err != nil {
		return nothing{}, err
	}
	l := &load{dir: a.Path, digest: readDigest}
	if a.Mapped {
		l.digest = mappedDigest
	}
	for _, e := range entries {
		if e.Mode&unix.S_IFMT == unix.S_IFREG && e.Size <= loadFileLimit {
			l.files = append(l.files, e)
		}
	}
	if len(l.files) == 0 {
		return nothing{}, errors.New("nothing to read")
	}
	for i := range max(a.Readers, 1) {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			l.read(rand.New(rand.NewPCG(uint64(i), 1)))
		}()
	}
	running = l
	return nothing{}, nil
}

func doLoadWait(a guestapi.LoadWaitArgs) (nothing, error) {
	if running == nil {
		return nothing{}, errNoLoad
	}
	for end := running.count.Load() + a.Files; running.count.Load() < end; {
		time.Sleep(time.Millisecond)
	}
	return nothing{}, nil
}

// doLoadStop waits for the files being read.
func doLoadStop(nothing) (guestapi.LoadResult, error) {
	l := running
	if l == nil {
		return guestapi.LoadResult{}, errNoLoad
	}
	running = nil
	l.stop.Store(true)
	l.wg.Wait()
	return guestapi.LoadResult{Files: l.count.Load(), Bytes: l.bytes.Load(), Errors: l.errs}, nil
}

func (l *load) read(rng *rand.Rand) {
	for !l.stop.Load() {
		e := &l.files[rng.IntN(len(l.files))]
		if err := l.check(e); err != nil {
			l.mu.Lock()
			if len(l.errs) < guestapi.MaxLines {
				l.errs = append(l.errs, err.Error())
			}
			l.mu.Unlock()
		}
		l.count.Add(1)
		l.bytes.Add(e.Size)
	}
}

// check reads one file past the page cache.
func (l *load) check(e *testtree.Entry) error {
	path := filepath.Join(l.dir, e.Path)
	if err := forget(path); err != nil {
		return err
	}
	got, err := l.digest(path)
	if err != nil {
		return err
	}
	if got != e.Digest {
		return fmt.Errorf("%q: digest: want %s, got %s", e.Path, e.Digest, got)
	}
	return nil
}

func readDigest(path string) (string, error) {
	return testtree.Digest(path, testtree.ScanOptions{ReadHoles: true})
}

// mappedDigest reads a file through a mapping: its pages are dropped and come again. The
// digest is of what came at last; if it differs from the first, both are told.
func mappedDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return testtree.NewContentDigest().Sum(0), err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Munmap(mem) }()
	var sums [2]string
	for i := range sums {
		d := testtree.NewContentDigest()
		d.Add(mem, 0)
		sums[i] = d.Sum(st.Size())
		if err := errors.Join(unix.Madvise(mem, unix.MADV_DONTNEED), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
			return "", err
		}
	}
	if sums[0] != sums[1] {
		return sums[0] + ", then " + sums[1], nil
	}
	return sums[1], nil
}

// forget drops the cached pages of one file.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
