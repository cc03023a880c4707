package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

// Unmount takes the image at place away.
func (d *Daemon) Unmount(ctx context.Context, place string) error {
	return d.API(ctx, http.MethodDelete, "/api/v1/mount?mountpoint="+url.QueryEscape(place), nil, nil)
}
