package api

import (
	"encoding/json"
	"net/http"

	"vrafs/internal/filelist"
)

// Prefetches is what is fetched of images before somebody asks for it. nydusd has
// nothing of the kind. A mountpoint that holds no image is an *Error of kind NoCounter.
type Prefetches interface {
	// Prefetch says how far it is.
	Prefetch(mountpoint string) (PrefetchStatus, error)
	// SetPrefetch carries out a command; it does not wait for what that begins.
	SetPrefetch(mountpoint string, cmd PrefetchCmd) error
	// ReadFiles lists what was read of an image so far, in the order of first reads.
	ReadFiles(mountpoint string) ([]filelist.File, error)
}

// PrefetchStatus is the answer to GET prefetch.
type PrefetchStatus struct {
	State  string `json:"state"` // none, running, paused or done
	Paused bool   `json:"paused"`
	Total  uint64 `json:"total"` // bytes that were asked for so far
	Done   uint64 `json:"done"`  // of them, those that are there or were given up
}

// A PrefetchCmd is the body of PUT prefetch.
type PrefetchCmd struct {
	Paused *bool           // nil: as it is
	Files  []filelist.File // to be fetched in this order; or empty
	All    bool            // everything, after them
}

func getPrefetch(d Daemon, r *http.Request) (any, error) {
	mp, err := requiredQuery(r.URL.RawQuery, "mountpoint")
	if err != nil {
		return nil, err
	}
	return d.Prefetch(mp)
}

func setPrefetch(d Daemon, r *http.Request) (any, error) {
	mp, cmd, err := commandFor(r, parsePrefetchCmd)
	if err != nil {
		return nil, err
	}
	return nil, d.SetPrefetch(mp, cmd)
}

// readFiles answers with a list that is one of files to be prefetched, too.
func readFiles(d Daemon, r *http.Request) (any, error) {
	mp, err := requiredQuery(r.URL.RawQuery, "mountpoint")
	if err != nil {
		return nil, err
	}
	list, err := d.ReadFiles(mp)
	if err != nil {
		return nil, err
	}
	text, err := filelist.JSON(list)
	return json.RawMessage(text), err
}

func parsePrefetchCmd(text []byte) (cmd PrefetchCmd, err error) {
	m, err := fields(text)
	if err != nil {
		return cmd, err
	}
	r := memberReader{text: text, m: m}
	if r.has("paused") {
		paused := r.boolean("paused")
		cmd.Paused = &paused
	}
	cmd.All = r.boolean("all")
	if raw, ok := m["files"]; ok && r.err == nil {
		if cmd.Files, err = filelist.Parse([]byte(`{"files":` + string(raw) + `}`)); err != nil {
			r.fail(err.Error())
		}
	}
	return cmd, r.err
}
