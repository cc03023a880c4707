package vm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"
)

// TestEvictionHarmsNobody has three daemons on one cache directory, which may have about
// half of what they read: one for a guest that maps files, two for processes of this host,
// which read, and let go of the guest's image now and then. Each evicts what nobody else
// has open. Nobody sees a wrong byte.
func TestEvictionHarmsNobody(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.FUSE)
	fileCounts := [3]int{32, 16, 16}
	var images [3]*image
	for i := range images {
		images[i] = makeImage(t, variants[i], randomTree(t, fileCounts[i]))
	}
	common, cache := images[0], t.TempDir()
	limit := []string{"--cache-limit", fmt.Sprint(limitMiB)}
	d := startDaemon(t, DaemonOptions{Bootstrap: common.Bootstrap, BlobDir: common.BlobDir, CacheDir: cache, Args: limit})
	daemons := []*Daemon{d}
	s := common.share("common", d)
	m := bootWith(t, Series[len(Series)-1], Options{}, s)
	s.mount(t, m)
	do(t, m, guestapi.LoadStart, guestapi.LoadArgs{Path: s.dir(), Manifest: s.manifestFile(), Readers: 2, Mapped: true})
	var readers sync.WaitGroup
	var stop atomic.Bool
	var reads atomic.Int64
	for _, own := range images[1:] {
		h := startDaemon(t, DaemonOptions{Mountpoint: t.TempDir(), CacheDir: cache, Args: limit})
		daemons = append(daemons, h)
		check(t, h.Mount(t.Context(), "/own", own.Bootstrap, own.BlobDir))
		readers.Go(func() {
			for round := 0; !stop.Load(); round++ {
				err := h.readSome("own", own)
				if round%4 == 0 && err == nil {
					err = h.visit(t, common)
				}
				if err != nil {
					t.Error(err)
					return
				}
				reads.Add(1)
			}
		})
	}
	hammer(t, daemons, time.Duration(testenv.Rounds(60))*time.Second)
	do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 1})
	stop.Store(true)
	readers.Wait()
	r := call[guestapi.LoadResult](t, m, guestapi.LoadStop, nil)
	for _, e := range r.Errors {
		t.Error("guest:", e)
	}
	t.Logf("%d rounds on the host, %d files in the guest", reads.Load(), r.Files)
	if reads.Load() == 0 || r.Files == 0 {
		t.Error("nothing was read: the test shows nothing")
	}
	unmount(t, m, s.dir())
}

// hammer waits for a time, and on until the daemons have evicted what the limit allows.
func hammer(t *testing.T, daemons []*Daemon, d time.Duration) {
	t.Helper()
	begin, tick := time.Now(), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		sum, evicted := uint64(0), []uint64{}
		for _, d := range daemons {
			evicted = append(evicted, d.evicted(t)>>20)
			sum += evicted[len(evicted)-1]
		}
		switch took := time.Since(begin); {
		case t.Failed():
			return
		case took > d && sum > limitMiB:
			t.Logf("the daemons evicted %d MiB in %v", evicted, took.Round(time.Second))
			return
		case took > d+2*time.Minute:
			t.Errorf("only %d MiB were evicted: the test shows nothing", evicted)
			return
		}
		<-tick.C
	}
}

// limitMiB is what the cache directory may have.
const limitMiB = 12

// randomTree is a directory of random files of 1 MiB.
func randomTree(t *testing.T, files int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range files {
		data := make([]byte, 1<<20)
		_, _ = rand.Read(data)
		check(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), data, 0o644))
	}
	return dir
}

// visit mounts an image, reads a little of it, and unmounts it.
func (d *Daemon) visit(t *testing.T, im *image) error {
	if err := d.Mount(t.Context(), "/visited", im.Bootstrap, im.BlobDir); err != nil {
		return err
	}
	return errors.Join(d.readSome("visited", im), d.Unmount(t.Context(), "/visited"))
}

// readSome reads a few files of what is mounted at a place of this host.
func (d *Daemon) readSome(place string, im *image) error {
	names, err := os.ReadDir(im.Tree)
	for range 4 {
		if err != nil {
			return err
		}
		name := names[mrand.IntN(len(names))].Name()
		var want []byte
		if want, err = os.ReadFile(filepath.Join(im.Tree, name)); err == nil {
			err = readPast(filepath.Join(d.opts.Mountpoint, place, name), want)
		}
	}
	return err
}

// readPast compares a file with what it must hold, past the page cache.
func readPast(path string, want []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	got, err := io.ReadAll(f)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s: wrong bytes", path)
	}
	return err
}

// evicted gives the bytes that the daemon has evicted.
func (d *Daemon) evicted(t *testing.T) (n uint64) {
	t.Helper()
	resp, err := d.client.Get("http://vrafsd/metrics")
	check(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, "vrafs_cache_evicted_bytes_total{") {
			v, err := strconv.ParseFloat(value, 64)
			check(t, err)
			n += uint64(v)
		}
	}
	return n
}
