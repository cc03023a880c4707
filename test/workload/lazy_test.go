package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A variant is how an image is served.
type variant struct {
	amplify  uint64 // amplify_io, bytes
	prefetch map[string]any
	list     string         // text of --prefetch-files; or empty
	registry map[string]any // more keys of the back end
}

// ordinary is amplify_io's default, and how much is read along for good in a request.
const ordinary = 1 << 20

// An outcome is what a start took.
type outcome struct {
	took  time.Duration
	count // through the line
}

// patience bounds a start, and every wait within.
const patience = 2 * time.Minute

// lazily starts a program of an image that nothing is there of yet: its metadata are
// fetched, the daemon is started, and the rest comes as it is read. Before all ends, see
// is called with the daemon's control socket; it may be nil.
func (s *stage) lazily(im *image, w *workload, v variant, see func(api string) error) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	dir, err := os.MkdirTemp(s.dir, "l")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before, begin := s.line.count(), time.Now()
	d, err := s.mount(ctx, im, v, dir)
	if d != nil {
		defer func() { err = errors.Join(err, d.stop()) }()
	}
	if err != nil {
		return o, err
	}
	r, err := newRoot(d.dir, dir)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := w.start(ctx, s, r.dir); err != nil {
		return o, fmt.Errorf("%w\n%s", err, &d.log)
	}
	o = outcome{time.Since(begin), s.line.count().since(before)}
	if see != nil {
		err = see(d.api)
	}
	return o, err
}

// A daemon is a vrafsd that has an image mounted.
type daemon struct {
	cmd      *exec.Cmd
	dir, api string
	log      bytes.Buffer
}

// mount fetches the metadata of an image and serves it. What it gives is to be stopped
// even if there is an error.
func (s *stage) mount(ctx context.Context, im *image, v variant, dir string) (*daemon, error) {
	packed, err := s.fetch(ctx, im.boot)
	if err != nil {
		return nil, err
	}
	text, err := expand(packed)
	if err != nil {
		return nil, err
	}
	registry := map[string]any{"scheme": "http", "host": s.line.Address, "repo": repo}
	maps.Copy(registry, v.registry)
	config, err := json.Marshal(map[string]any{
		"version": 2, "id": im.name,
		"backend": map[string]any{"type": "registry", "registry": registry},
		"cache": map[string]any{"type": "filecache", "prefetch": v.prefetch,
			"filecache": map[string]any{"work_dir": filepath.Join(dir, "cache")}},
		"rafs": map[string]any{"mode": "direct", "batch_size": v.amplify, "prefetch": v.prefetch, "enable_xattr": true},
	})
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: filepath.Join(dir, "lower"), api: filepath.Join(dir, "api")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		return nil, err
	}
	args := []string{"fuse", "--keeper", "off", "-B", filepath.Join(dir, "boot"), "-C", filepath.Join(dir, "config"), "-M", d.dir, "-A", d.api}
	files := map[string][]byte{"boot": text, "config": config}
	if v.list != "" {
		files["list"] = []byte(v.list)
		args = append(args, "--prefetch-files", filepath.Join(dir, "list"))
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	d.cmd = exec.Command(program(s.t, "vrafsd"), args...)
	d.cmd.Stderr = &d.log
	if err := s.host.Start(d.cmd); err != nil {
		return nil, err
	}
	return d, d.mounted(ctx)
}

// mounted waits until the mount is there.
func (d *daemon) mounted(ctx context.Context) error {
	const magic = 0x65735546
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		var st unix.Statfs_t
		if unix.Statfs(d.dir, &st) == nil && st.Type == magic {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("nothing is mounted\n%s", &d.log)
		}
	}
}

// stop ends the daemon, which unmounts.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return d.cmd.Wait()
}

// eagerly pulls and unpacks the same image, and then starts the program.
func (s *stage) eagerly(im *image, w *workload) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	dir, err := os.MkdirTemp(s.dir, "e")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before, begin := s.line.count(), time.Now()
	lower := filepath.Join(dir, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		return o, err
	}
	for _, id := range im.layers {
		if err := s.unpack(ctx, id, lower); err != nil {
			return o, err
		}
	}
	r, err := newRoot(lower, dir)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := w.start(ctx, s, r.dir); err != nil {
		return o, err
	}
	return outcome{time.Since(begin), s.line.count().since(before)}, nil
}

// unpack unpacks a layer while it comes.
func (s *stage) unpack(ctx context.Context, id, dir string) error {
	resp, err := s.http.Get(s.url(id))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	cmd := exec.CommandContext(ctx, "tar", "--numeric-owner", "-xzpf", "-", "-C", dir)
	cmd.Stdin = resp.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return nil
}
