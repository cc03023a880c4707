package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// showInfo prints the answer to GET daemon.
func showInfo(w io.Writer, text []byte) error {
	var v struct {
		Version struct {
			Package   string `json:"package_ver"`
			Commit    string `json:"git_commit"`
			BuildTime string `json:"build_time"`
			Profile   string `json:"profile"`
		} `json:"version"`
		ID       string                 `json:"id"`
		State    string                 `json:"state"`
		Backends map[string]daemonMount `json:"backend_collection"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	row(w, "Version", v.Version.Package)
	row(w, "Status", v.State)
	row(w, "Profile", v.Version.Profile)
	row(w, "Commit", v.Version.Commit)
	row(w, "Build time", v.Version.BuildTime)
	if v.ID != "" {
		row(w, "ID", v.ID)
	}
	for _, place := range slices.Sorted(maps.Keys(v.Backends)) {
		fmt.Fprintln(w)
		row(w, "Mountpoint", place)
		v.Backends[place].show(w)
	}
	return nil
}

// A daemonMount is one mount of the answer.
type daemonMount struct {
	Type    string `json:"backend_type"`
	Mounted []int  `json:"mounted_time"` // year, day of the year, hour, minute, second, ...
	Config  *struct {
		ID      string
		Backend struct{ Type string }
		Cache   struct{ Type string }
		Rafs    struct {
			Mode     string
			Prefetch struct{ Enable bool }
		}
	} `json:"config"`
}

func (m daemonMount) show(w io.Writer) {
	row(w, "  Type", m.Type)
	if t := m.Mounted; len(t) >= 5 {
		since := time.Date(t[0], time.January, t[1], t[2], t[3], t[4], 0, time.UTC)
		row(w, "  Mounted", since.Format(time.DateTime)+" UTC")
	}
	if c := m.Config; c != nil {
		if c.ID != "" {
			row(w, "  ID", c.ID)
		}
		row(w, "  Mode", c.Rafs.Mode)
		row(w, "  Backend", c.Backend.Type)
		row(w, "  Cache", c.Cache.Type)
		row(w, "  Prefetch", fmt.Sprint(c.Rafs.Prefetch.Enable))
	}
}

func row(w io.Writer, name string, value any) { fmt.Fprintf(w, "%s:\t%v\n", name, value) }

// counters are the categories of metrics.
var counters = map[string]struct {
	path string
	show func(w io.Writer, text []byte) error
}{
	"backend": {"/api/v1/metrics/backend", showBackend},
	"cache":   {"/api/v1/metrics/blobcache", showCache},
	"fsstats": {"/api/v1/metrics", showFSStats},
}

func showBackend(w io.Writer, text []byte) error {
	var v struct {
		Type   string `json:"backend_type"`
		Count  uint64 `json:"read_count"`
		Errors uint64 `json:"read_errors"`
		Amount uint64 `json:"read_amount_total"`
		Millis uint64 `json:"read_cumulative_latency_millis_total"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	row(w, "Backend type", v.Type)
	row(w, "Read amount", fmt.Sprintf("%d bytes", v.Amount))
	row(w, "Read count", v.Count)
	row(w, "Read errors", v.Errors)
	if v.Count > 0 {
		row(w, "Average read", fmt.Sprintf("%d bytes in %.1f ms", v.Amount/v.Count, float64(v.Millis)/float64(v.Count)))
	}
	return nil
}

func showCache(w io.Writer, text []byte) error {
	var v struct {
		Partial  uint64   `json:"partial_hits"`
		Whole    uint64   `json:"whole_hits"`
		Total    uint64   `json:"total"`
		Dir      string   `json:"store_path"`
		Files    []string `json:"underlying_files"`
		Entries  uint64   `json:"entries_count"`
		Workers  uint64   `json:"prefetch_workers"`
		Data     uint64   `json:"prefetch_data_amount"`
		Requests uint64   `json:"prefetch_requests_count"`
		Buffered uint64   `json:"buffered_backend_size"`
		Ready    bool     `json:"data_all_ready"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	row(w, "Total requests", v.Total)
	row(w, "Whole hits", v.Whole)
	row(w, "Partial hits", v.Partial)
	row(w, "Chunks", v.Entries)
	row(w, "Directory", v.Dir)
	row(w, "Files", strings.Join(v.Files, " "))
	row(w, "Prefetch workers", v.Workers)
	row(w, "Prefetch requests", v.Requests)
	row(w, "Prefetch amount", fmt.Sprintf("%d bytes", v.Data))
	row(w, "Buffered", fmt.Sprintf("%d bytes", v.Buffered))
	row(w, "All data local", v.Ready)
	return nil
}

// operations are the indices of fop_hits and its kin.
var operations = [...]string{"getattr", "readlink", "open", "release", "read", "statfs", "getxattr", "listxattr",
	"opendir", "lookup", "readdir", "readdirplus", "access", "forget", "batchforget"}

func showFSStats(w io.Writer, text []byte) error {
	var v struct {
		ID       string   `json:"id"`
		Opens    uint64   `json:"nr_opens"`
		DataRead uint64   `json:"data_read"`
		Hits     []uint64 `json:"fop_hits"`
		Errors   []uint64 `json:"fop_errors"`
		Latency  []uint64 `json:"fop_cumulative_latency_total"` // µs
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	row(w, "Mountpoint", v.ID)
	row(w, "Open files", v.Opens)
	row(w, "Data read", fmt.Sprintf("%d bytes", v.DataRead))
	fmt.Fprintln(w, "\nOperation\tCount\tErrors\tAverage µs")
	for i := range min(len(operations), len(v.Hits), len(v.Errors), len(v.Latency)) {
		if n := v.Hits[i]; n > 0 {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", operations[i], n, v.Errors[i], v.Latency[i]/n)
		}
	}
	return nil
}
