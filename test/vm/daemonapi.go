package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config is the configuration for an image whose blobs are in blobDir.
func Config(id, blobDir, cacheDir string) []byte {
	return config(id, localFS(blobDir), cacheDir)
}

// localFS is the back end of a directory.
func localFS(dir string) map[string]any {
	return map[string]any{"type": "localfs", "config": map[string]any{"dir": dir}}
}

func config(id string, backend map[string]any, cacheDir string) []byte {
	b, _ := json.Marshal(map[string]any{
		"device": map[string]any{
			"id":      id,
			"backend": backend,
			"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": cacheDir}},
		},
		"mode": "direct", "enable_xattr": true, "digest_validate": false,
		"fs_prefetch": map[string]any{"enable": false},
	})
	return b
}

// API sends a request to the control socket. body may be nil; result, unless nil,
// takes the decoded answer. An answer of 400 and above is an error with its text.
func (d *Daemon) API(ctx context.Context, method, path string, body, result any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://vrafsd"+path, r)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case result == nil:
		return nil
	}
	return json.Unmarshal(text, result)
}

// Mount mounts an image at a place inside the device, such as "/a".
func (d *Daemon) Mount(ctx context.Context, place, bootstrap, blobDir string) error {
	return d.API(ctx, http.MethodPost, "/api/v1/mount?mountpoint="+url.QueryEscape(place), map[string]any{
		"fs_type": "rafs", "source": bootstrap, "config": string(Config(place, blobDir, d.opts.CacheDir)),
	}, nil)
}

// Share shows a directory of this host, to be written to, at a place inside the device.
func (d *Daemon) Share(ctx context.Context, place, dir string) error {
	return d.API(ctx, http.MethodPost, "/api/v1/mount?mountpoint="+url.QueryEscape(place), map[string]any{
		"fs_type": "passthrough_fs", "source": dir, "config": "",
	}, nil)
}

// Upgrade has the daemon become the program at its path, and waits until requests are
// served again, for the n-th time. It returns how long they stood still.
func (d *Daemon) Upgrade(ctx context.Context, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonDeadline)
	defer cancel()
	if err := d.API(ctx, http.MethodPut, "/api/v1/daemon/upgrade", nil, nil); err != nil {
		return 0, err
	}
	for {
		d.client.CloseIdleConnections() // they lead to the former program
		text, err := d.metrics(ctx)
		if ctx.Err() != nil {
			return 0, fmt.Errorf("no upgrade within %v: %w", daemonDeadline, err)
		}
		if seconds, ok := strings.CutPrefix(lineOf(text, "vrafs_upgrade_pause_seconds "), "vrafs_upgrade_pause_seconds "); ok && lineOf(text, fmt.Sprintf("vrafs_upgrades_total %d", n)) != "" && seconds != "0" {
			pause, err := strconv.ParseFloat(seconds, 64)
			return time.Duration(pause * float64(time.Second)), err
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// metrics is the daemon's Prometheus text.
func (d *Daemon) metrics(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vrafsd/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return string(text), err
}

// lineOf is the line of text that begins with something, "" if there is none.
func lineOf(text, begin string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// Unmount takes the image at place away.
func (d *Daemon) Unmount(ctx context.Context, place string) error {
	return d.API(ctx, http.MethodDelete, "/api/v1/mount?mountpoint="+url.QueryEscape(place), nil, nil)
}
