package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testfault"
	"vrafs/internal/teststore"
)

// ranges are the first bytes of the requests for more than so many, in their order.
type ranges struct {
	mu    sync.Mutex
	begin []uint64
	fault testfault.Fault // of the first; nil: none
}

const longRange = 2 << 20

// pass notes a request, and answers it.
func (r *ranges) pass(x *testfault.Exchange) {
	var begin, end uint64
	_, err := fmt.Sscanf(x.R.Header.Get("Range"), "bytes=%d-%d", &begin, &end)
	r.mu.Lock()
	fault := testfault.Fault(nil)
	if err == nil && end-begin > longRange {
		r.begin = append(r.begin, begin)
		if len(r.begin) == 1 {
			fault = r.fault
		}
	}
	r.mu.Unlock()
	if fault == nil {
		fault = (*testfault.Exchange).Pass
	}
	fault(x)
}

// TestStreamPrefetchIsOneRequest for a blob, out of a real registry: after a failure the
// next goes on where it stopped, and wrong bytes are never kept.
func TestStreamPrefetchIsOneRequest(t *testing.T) {
	h, im := newHost(t), newRandomImage(t, 16, 1<<20)
	p := h.fuse(t, h.api).ready()
	kind := teststore.Find(t, "registry")
	registry := kind.StartDir(t, im.BlobDir)
	metric := func(name string) (n uint64) {
		t.Helper()
		_, text, _ := strings.Cut(p.must(200, "GET", "/metrics", ""), "\nvrafs_stream_"+name+"_total ")
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	for _, tt := range []struct {
		name  string
		fault testfault.Fault
		begin func([]uint64) bool
		again uint64 // requests that the daemon counts as resumed
	}{
		{"quiet", nil, func(b []uint64) bool { return len(b) == 1 }, 0},
		{"truncation", testfault.Truncate, func(b []uint64) bool { return len(b) == 2 && b[1] > 7<<20 && b[1] < 9<<20 }, 1},
		{"reset", testfault.ResetBody, func(b []uint64) bool { return len(b) == 2 && b[1] > b[0] }, 1},
		{"stall", testfault.StallBody, func(b []uint64) bool { return len(b) == 2 && b[1] > 7<<20 && b[1] < 9<<20 }, 1},
		{"wrong-bytes", testfault.WrongBytes, func(b []uint64) bool { return len(b) == 1 }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, s := h.spoil(t, p, tt.name, im, registry, nil)
			seen := &ranges{fault: tt.fault}
			m.proxy.Set(seen.pass, -1)
			requests, resumed, bytes := metric("requests"), metric("resumes"), metric("bytes")
			config := strings.Replace(im.stored(s.With(map[string]any{"timeout": 1}), t.TempDir()), `"type":"blobcache"`,
				`"prefetch":{"enable":true,"stream_prefetch":true},"type":"blobcache"`, 1)
			p.must(204, "POST", "/api/v1/mount?mountpoint=/"+tt.name, im.mountBody(config))
			p.eventually(`"state":"done"`, "/api/v1/prefetch?mountpoint=/"+tt.name)
			seen.mu.Lock()
			begin := slices.Clone(seen.begin)
			seen.mu.Unlock()
			if !tt.begin(begin) {
				t.Errorf("long requests from %d", begin)
			}
			if got := metric("requests") - requests; got != uint64(len(begin)) || metric("resumes")-resumed != tt.again || metric("bytes")-bytes < 16<<20 {
				t.Errorf("counted %d requests, %d of them resumed, %d bytes", got, metric("resumes")-resumed, metric("bytes")-bytes)
			}
			m.proxy.Down() // everything is there
			m.readAll(slices.Sorted(maps.Keys(m.files))...)
		})
	}
}
