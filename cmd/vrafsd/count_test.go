package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMetricsCountWhatWasRead by a program that reads one file of six bytes: those
// six, in one read.
func TestMetricsCountWhatWasRead(t *testing.T) {
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", oneFile(t, "six by").mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F2", oneFile(t, "another").mountBody(""))
	out, err := exec.Command("cat", filepath.Join(h.dir, "1", "f")).Output()
	if err != nil || string(out) != "six by" {
		t.Fatalf("%q, %v", out, err)
	}
	const read, lookup = 4, 9
	for _, tt := range []struct {
		id                  string
		bytes, reads, small uint64
	}{{"/1", 6, 1, 1}, {"/2", 0, 0, 0}} {
		var m struct {
			ID     string   `json:"id"`
			Read   uint64   `json:"data_read"`
			Sizes  []uint64 `json:"block_count_read"`
			Hits   []uint64 `json:"fop_hits"`
			Errors []uint64 `json:"fop_errors"`
		}
		text := p.must(200, "GET", "/api/v1/metrics?id="+tt.id, "")
		if err := json.Unmarshal([]byte(text), &m); err != nil || len(m.Hits) != 15 || len(m.Sizes) != 8 {
			t.Fatalf("%s: %v", text, err)
		}
		if m.ID != tt.id || m.Read != tt.bytes || m.Hits[read] != tt.reads || m.Sizes[0] != tt.small || sum(m.Sizes) != tt.reads || sum(m.Errors) != 0 {
			t.Errorf("%s: %s", tt.id, text)
		}
		if tt.reads != 0 && m.Hits[lookup] == 0 {
			t.Errorf("%s: %s", tt.id, text)
		}
	}
}

func sum(v []uint64) (n uint64) {
	for _, x := range v {
		n += x
	}
	return n
}
