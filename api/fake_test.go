package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vrafs/internal/filelist"
)

// fake is a Daemon that remembers calls and answers from fields.
type fake struct {
	mu        sync.Mutex
	calls     []string
	mounts    map[string]MountCmd
	overrides map[string]map[string]string
	err       error // answer of every command
	metrics   any
	query     MetricsQuery
	info      Info
	block     chan struct{} // Mount waits for it if not nil
}

func newFake() *fake {
	return &fake{
		mounts: map[string]MountCmd{}, overrides: map[string]map[string]string{},
		info: Info{Version: Version{"v2.4.4", "34e6071e", "2026-07-20T00:00:00Z", "release", "rustc 1.84.0"},
			State: "RUNNING", BackendCollection: map[string]Backend{}},
	}
}

func (f *fake) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return f.err
}

func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return ""
	}
	return f.calls[len(f.calls)-1]
}

func (f *fake) Info() Info { return f.info }
func (f *fake) Do(_ context.Context, a Action) error {
	return f.note([]string{"start", "exit", "sendfd", "takeover"}[a])
}
func (f *fake) SetLogLevel(level string) error { return f.note("log " + level) }
func (f *fake) Events() Events {
	return Events{MaxErrors: 500, TotalErrors: 1, MaxSize: 51200, TotalSize: 4, Errors: []string{"boom"}}
}

func (f *fake) Mount(_ context.Context, mp string, cmd MountCmd) error {
	if f.block != nil {
		<-f.block
	}
	if err := f.note("mount " + mp); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.mounts[mp]; ok {
		return errors.New("object or filesystem already exists")
	}
	f.mounts[mp] = cmd
	return nil
}

func (f *fake) Remount(_ context.Context, mp string, _ MountCmd) error {
	return f.note("remount " + mp)
}
func (f *fake) Unmount(_ context.Context, mp string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.mounts[mp]; !ok {
		return errors.New("object or filesystem doesn't exist")
	}
	delete(f.mounts, mp)
	return nil
}

func (f *fake) Backend(_ context.Context, mp string) (SuperBlock, error) {
	return SuperBlock{Magic: 1, AttrTimeout: Duration{Secs: 1 << 32}}, f.note("backend " + mp)
}

func (f *fake) Metrics(q MetricsQuery) (any, error) {
	f.query = q
	return f.metrics, f.note("metrics")
}

func (f *fake) Families() []Family {
	return []Family{
		{Name: "vrafs_reads_total", Help: "Reads.", Type: "counter", Samples: []Sample{
			{Labels: []string{"mountpoint", "/a\"\\\n"}, Value: 3}, {Value: 0.5}}},
		{Name: "empty", Type: "gauge"},
	}
}

func (f *fake) Prefetch(mp string) (PrefetchStatus, error) {
	return PrefetchStatus{State: "running", Total: 7, Done: 3}, f.note("prefetch " + mp)
}

func (f *fake) SetPrefetch(mp string, cmd PrefetchCmd) error {
	paused := "as it is"
	if cmd.Paused != nil {
		paused = fmt.Sprint(*cmd.Paused)
	}
	return f.note(fmt.Sprint("prefetch ", mp, " paused ", paused, " all ", cmd.All, " ", string(filelist.Lines(cmd.Files))))
}

func (f *fake) ReadFiles(mp string) ([]filelist.File, error) {
	return []filelist.File{{Path: "/a"}, {Path: "/b", Ranges: []filelist.Range{{4096, 1}}}}, f.note("files " + mp)
}

func (f *fake) Abort(q AbortQuery) (Aborted, error) {
	return Aborted{2}, f.note(fmt.Sprint("abort ", q))
}

func (f *fake) Override(id string) map[string]string { return f.overrides[id] }
func (f *fake) SetOverride(id string, v map[string]string) error {
	f.overrides[id] = v
	return f.note("override " + id)
}
func (f *fake) PutBlob(_ context.Context, entry []byte) error { return f.note("put " + string(entry)) }
func (f *fake) UnbindBlob(_ context.Context, domain, blob string) error {
	return f.note("unbind " + domain + " " + blob)
}
func (f *fake) ListBlobs(domain string) ([]BoundBlob, error) {
	return []BoundBlob{{Type: "bootstrap", ID: "i", DomainID: domain, MetadataPath: "/m", DataBlobs: []string{}}}, f.note("list " + domain)
}
func (f *fake) DeleteBlob(_ context.Context, blob string) error { return f.note("delete " + blob) }

// serve starts the API on a socket and returns a client and the socket's path.
func serve(t testing.TB, d Daemon) (*http.Client, string) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "api.sock")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, d) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var nd net.Dialer
		return nd.DialContext(ctx, "unix", sock)
	}}
	t.Cleanup(func() {
		stop()
		tr.CloseIdleConnections()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("server does not end")
		}
	})
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}, sock
}

// ask sends a request and returns the answer with its body.
func ask(t testing.TB, c *http.Client, method, target, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://unix"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(p)
}
