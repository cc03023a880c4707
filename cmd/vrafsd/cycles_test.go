package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

// TestThousandImagesBehindOneMount are mounted at once and all seen; then they go.
func TestThousandImagesBehindOneMount(t *testing.T) {
	testenv.Long(t)
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	im := oneFile(t, "text")
	all := func(method, body string) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 50 {
					p.must(204, method, fmt.Sprintf("/api/v1/mount?mountpoint=%%2F%d%%2F%d", i, j), body)
				}
			})
		}
		wg.Wait()
	}
	all("POST", im.mountBody(""))
	files, err := filepath.Glob(filepath.Join(h.dir, "*", "*", "f"))
	if err != nil || len(files) != 1000 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if got, err := os.ReadFile(f); err != nil || string(got) != "text" {
			t.Fatalf("%s: %q, %v", f, got, err)
		}
	}
	all("DELETE", "")
	if names, err := os.ReadDir(h.dir); err != nil || len(names) != 0 {
		t.Errorf("%d names are left, %v", len(names), err)
	}
}

// TestMountCyclesLeakNothing mounts, reads and unmounts again and again: memory,
// descriptors, mappings and files are then what they were after the first rounds.
func TestMountCyclesLeakNothing(t *testing.T) {
	testenv.Long(t)
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	im := oneFile(t, strings.Repeat("text", 5000))
	path := filepath.Join(h.dir, "a", "f")
	cycle := func() {
		p.must(204, "POST", "/api/v1/mount?mountpoint=%2Fa", im.mountBody(""))
		if got, err := os.ReadFile(path); err != nil || len(got) != 20_000 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2Fa", "")
	}
	for range 50 {
		cycle()
	}
	before := p.holds(t)
	rounds := testenv.Rounds(10_000)
	for range rounds {
		cycle()
	}
	after := p.holds(t)
	const some = 8 // a connection, a thread's stack: they come and go
	if after.fds > before.fds+some || after.maps > before.maps+4*some || after.rss > before.rss+8<<10 {
		t.Errorf("after %d rounds the daemon holds %+v, before them %+v", rounds, after, before)
	}
	if left, err := os.ReadDir(im.cache); err != nil || len(left) > 8 {
		t.Errorf("%d files in the cache: %v", len(left), err)
	}
}

// What a process holds.
type holdings struct{ fds, maps, threads, rss int } // rss in KiB

func (p *process) holds(t *testing.T) (n holdings) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	n = holdings{fds: len(fds), maps: strings.Count(string(maps), "\n")}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &n.rss)
		_, _ = fmt.Sscanf(line, "Threads: %d", &n.threads)
	}
	return n
}
