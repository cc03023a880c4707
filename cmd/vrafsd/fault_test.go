package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testfault"
	"vrafs/internal/teststore"
)

// A spoiled mount has a network that can be spoiled: a proxy before its registry.
type spoiled struct {
	t      *testing.T
	h      *host
	p      *process
	place  string            // of the mount, a name in the host's directory
	files  map[string][]byte // of the image
	blob   string            // the id of its blob
	host   string            // what errors name
	origin string            // the server without the proxy
	names  *testfault.Names
	proxy  *testfault.Proxy
}

// spoil puts a proxy before the server of a store that has an image. The image is yet to
// be mounted, out of the store that is returned or a changed one.
func (h *host) spoil(t *testing.T, p *process, place string, im *randomImage, s *teststore.Store, names *testfault.Names) (*spoiled, *teststore.Store) {
	t.Helper()
	m := &spoiled{t: t, h: h, p: p, place: place, files: im.files, blob: im.blob, names: names, proxy: testfault.Start(t, s.URL)}
	m.host = m.proxy.Host
	_, m.origin, _ = strings.Cut(s.URL, "://")
	return m, s.At(m.proxy.Host).With(map[string]any{"retry_limit": 2})
}

// mount mounts the image at m's place, with an empty cache.
func (m *spoiled) mount(im *randomImage, s *teststore.Store) {
	m.t.Helper()
	m.mountAt(im, s, m.t.TempDir())
}

// mountAt is mount with a cache directory. Each file is fetched by itself.
func (m *spoiled) mountAt(im *randomImage, s *teststore.Store, cache string) {
	m.t.Helper()
	config := strings.Replace(im.stored(s, cache), `"mode":"direct"`, `"mode":"direct","batch_size":0`, 1)
	m.p.must(204, "POST", "/api/v1/mount?mountpoint=/"+m.place, im.mountBody(config))
}

// read reads a file. It ends in bounded time, with the right bytes or with EIO.
func (m *spoiled) read(name string) error {
	type result struct {
		data []byte
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		data, err := os.ReadFile(filepath.Join(m.h.dir, m.place, name))
		ended <- result{data, err}
	}()
	select {
	case r := <-ended:
		if want := m.files[name]; !bytes.HasPrefix(want, r.data) || r.err == nil && len(r.data) != len(want) {
			m.t.Errorf("%s: wrong bytes, %d of them, %v", name, len(r.data), r.err)
		}
		if r.err != nil && !errors.Is(r.err, syscall.EIO) {
			m.t.Errorf("%s: %v, want EIO", name, r.err)
		}
		return r.err
	case <-time.After(patience):
		m.t.Errorf("%s: the read does not end", name)
		return syscall.ETIMEDOUT
	}
}

// readAll reads files that must come, all of them if none is named.
func (m *spoiled) readAll(names ...string) {
	m.t.Helper()
	if names == nil {
		names = slices.Collect(maps.Keys(m.files))
	}
	for _, name := range names {
		if err := m.read(name); err != nil {
			m.t.Errorf("%s/%s: %v", m.place, name, err)
		}
	}
}

// forget has the kernel forget the files, so that the next reads ask the daemon.
func (m *spoiled) forget() {
	m.t.Helper()
	for name := range m.files {
		f, err := os.Open(filepath.Join(m.h.dir, m.place, name))
		if err != nil {
			m.t.Fatal(err)
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			m.t.Error(err)
		}
		_ = f.Close()
	}
}

// told fails the test unless an event, and the log, say which blob, which host, and the
// cause, a regular expression.
func (m *spoiled) told(cause string) {
	m.t.Helper()
	events := strings.Split(m.p.must(200, "GET", "/api/v1/daemon/events", ""), `","`)
	for what, lines := range map[string][]string{"event": events, "line of the log": strings.Split(m.p.log(), "\n")} {
		var found []string
		for _, l := range lines {
			if strings.Contains(l, m.place) && strings.Contains(l, m.host) && strings.Contains(l, m.blob) {
				found = append(found, l)
			}
		}
		if !regexp.MustCompile(cause).MatchString(strings.Join(found, "\n")) {
			m.t.Errorf("no %s with mount, blob, host and %q; there is %q", what, cause, found)
		}
	}
}

// failures is how often the daemon got no answer from what the fault is at: the proxy, or
// the host whose name can't be found.
func (m *spoiled) failures() (n int) {
	m.t.Helper()
	host := m.proxy.Host
	if strings.Contains(m.host, ".test:") {
		host = m.host
	}
	_, text, _ := strings.Cut(m.p.must(200, "GET", "/metrics", ""), "\nvrafs_host_failures_total{host=\""+host+"\"} ")
	_, _ = fmt.Sscan(text, &n) // 0 for a host that nobody has asked
	return n
}

// check is what is asked of every fault.
func (m *spoiled) check(row *faultRow) {
	set := func(n int) {
		m.proxy.Set(row.fault, n)
		if row.begin != nil {
			row.begin(m)
		}
	}
	if err := m.read("f0"); err != nil {
		m.t.Errorf("before the fault: %v", err)
	}
	if row.fault != nil && !row.lasting {
		set(1)
		if err := m.read("f1"); err != nil {
			m.t.Errorf("a fault that passes: %v", err)
		}
		if m.proxy.Struck() == 0 {
			m.t.Error("a fault that passes struck nothing: the test shows nothing")
		}
	}
	failures := m.failures()
	set(-1)
	var readers sync.WaitGroup
	var failed atomic.Int64
	for _, name := range []string{"f2", "f3", "f4", "f5"} {
		readers.Go(func() {
			if m.read(name) != nil {
				failed.Add(1)
			}
		})
	}
	readers.Wait()
	if n := failed.Load(); row.event == "" && n > 0 || row.event != "" && (n == 0 || n < 4 && !row.partial) {
		m.t.Errorf("a fault that stays: %d of 4 reads failed", n)
	}
	switch {
	case row.fault == nil && m.failures() == failures:
		m.t.Error("nobody met the fault: the test shows nothing")
	case row.fault != nil && !row.evaded && m.proxy.Struck() == 0: // what is evaded is passed by since the first
		m.t.Error("a fault that stays struck nothing: the test shows nothing")
	}
	if row.event != "" {
		m.told(row.event)
	}
	asked := m.proxy.Asked()
	m.proxy.Set(nil, 0)
	if row.end != nil {
		row.end(m)
	}
	m.readAll()
	// A proxy that was dead is left alone for a moment.
	if m.proxy.Asked() == asked && !row.evaded {
		m.t.Error("after the fault nothing comes this way any more")
	}
}

// TestFaultsOfTheNetwork has every fault at once, each on a mount of its own, before one
// daemon. No fault makes a wrong byte; a read ends in bounded time, with the right ones or
// with EIO, and an event tells the blob, the host and the cause. What passes isn't seen,
// and what has ended leaves nothing behind.
func TestFaultsOfTheNetwork(t *testing.T) {
	h, im := newHost(t), newRandomImage(t, 8, 50_000)
	names := testfault.StartNames(t)
	cmd := exec.Command(binary, "fuse", "--mountpoint", h.dir, "--apisock", h.api, "--keeper", "off", "--request-timeout", "10")
	names.Command(t, cmd, h.dir)
	p := start(t, cmd, "", h.api).ready()
	kind := teststore.Find(t, "registry")
	registry := kind.StartDir(t, im.BlobDir)
	var rows sync.WaitGroup
	for _, row := range faultRows() {
		rows.Go(func() {
			t.Run(row.name, func(t *testing.T) {
				base := registry
				if row.store != nil {
					base = row.store(t, im)
				}
				m, s := h.spoil(t, p, strings.ReplaceAll(row.name, " ", "-"), im, base, names)
				if row.slow {
					s = s.With(map[string]any{"timeout": 1, "connect_timeout": 1})
				}
				if row.setUp != nil {
					s = row.setUp(m, s)
				}
				m.mount(im, s)
				m.check(&row)
			})
		})
	}
	rows.Wait()
	p.eventually("vrafs_pending_requests 0", "/metrics")
	p.tookLittle()
}

// TestServerAwayForAMinute, and a proxy: reads of the one end with EIO again and again,
// past the other they go on. When both are back, so are the reads, and the proxy is used.
func TestServerAwayForAMinute(t *testing.T) {
	h, im := newHost(t), newRandomImage(t, 64, 20_000)
	p := h.fuse(t, h.api, "--request-timeout", "10").ready()
	kind := teststore.Find(t, "registry")
	registry := kind.StartDir(t, im.BlobDir)
	server, s := h.spoil(t, p, "server", im, registry, nil)
	server.mount(im, s)
	proxy, _ := h.spoil(t, p, "proxy", im, registry, nil)
	proxy.mount(im, registry.With(map[string]any{"proxy": map[string]any{"url": "http://" + proxy.proxy.Host, "check_interval": 1, "window_size": smallWindow}}))
	for _, m := range []*spoiled{server, proxy} {
		if err := m.read("f0"); err != nil || m.proxy.Asked() == 0 {
			t.Fatalf("%s: %v, or another way was taken", m.place, err)
		}
		m.proxy.Down()
	}
	away := time.Duration(testenv.Rounds(60)) * time.Second
	var reads atomic.Int64
	var readers sync.WaitGroup
	limit := time.Now().Add(away)
	for i := range 4 {
		readers.Go(func() {
			for n := i; time.Now().Before(limit); n += 4 {
				name := fmt.Sprint("f", 1+n%32)
				if err := server.read(name); err == nil {
					t.Errorf("%s was read from nowhere", name)
				}
				if err := proxy.read(name); err != nil {
					t.Errorf("%s past the dead proxy: %v", name, err)
				}
				reads.Add(1)
			}
		})
	}
	readers.Wait()
	t.Logf("%d reads while the server was away for %v", reads.Load(), away)
	server.told("connection refused")
	server.proxy.Up()
	proxy.proxy.Up()
	before := proxy.proxy.Asked()
	for i := 33; proxy.proxy.Asked() == before; i++ { // it is left alone for an interval at most
		if err := proxy.read(fmt.Sprint("f", i)); err != nil || i == 63 {
			t.Fatalf("f%d: %v, or the proxy that is back is not used", i, err)
		}
		<-time.After(200 * time.Millisecond)
	}
	server.readAll()
	p.tookLittle()
}

// tookLittle fails the test if the process ever had more memory than it may.
func (p *process) tookLittle() {
	p.t.Helper()
	most := p.peakMemory()
	p.t.Logf("the daemon took %d MiB at most", most>>20)
	if most > 128<<20 {
		p.t.Errorf("that is more than 128")
	}
}

// peakMemory is the most memory that the process ever had, in bytes.
func (p *process) peakMemory() uint64 {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		p.t.Fatalf("no VmHWM in %s", text)
	}
	n, err := strconv.ParseUint(string(m[1]), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}
