package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"vrafs/internal/testenv"
)

// BuildDaemon compiles vrafsd to the file at path.
func BuildDaemon(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "vrafs/cmd/vrafsd")
	cmd.Dir = testenv.ModuleRoot()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build vrafsd: %w\n%s", err, out)
	}
	return nil
}

// DaemonOptions describe a vrafsd process that serves a virtio-fs device, or this host.
type DaemonOptions struct {
	Program string // path of vrafsd
	// Bootstrap is the image to serve as the root; empty starts the daemon with
	// nothing mounted, for Mount.
	Bootstrap string
	BlobDir   string // directory of blobs, named by their ids
	// Backend, unless nil, is where blobs are instead: "backend" of a configuration.
	Backend map[string]any
	// Mountpoint, unless empty, is where it mounts on this host instead of serving a device.
	Mountpoint string
	// CacheDir outlives the daemon if it is set; empty means a new one.
	CacheDir string
	// Args are added to the command line.
	Args []string
}

// A Daemon is a running vrafsd.
type Daemon struct {
	// Dir holds its sockets, its log and, unless it was given, its cache.
	Dir string
	// Socket is where a front-end connects.
	Socket string

	opts   DaemonOptions
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	client http.Client
	keep   bool
	former int // daemons that it goes on for
}

const (
	daemonLog      = "vrafsd.log"
	daemonDeadline = 20 * time.Second // from the start to RUNNING
)

// StartDaemon starts vrafsd and waits until its API answers RUNNING. It is killed
// when ctx ends. On failure the error has the end of its log.
func StartDaemon(ctx context.Context, o DaemonOptions) (*Daemon, error) {
	dir, err := os.MkdirTemp("", "vrafs-vm-daemon-")
	if err != nil {
		return nil, fmt.Errorf("start vrafsd: %w", err)
	}
	d := &Daemon{Dir: dir, Socket: filepath.Join(dir, "fs.sock"), opts: o}
	if o.CacheDir == "" {
		d.opts.CacheDir = filepath.Join(dir, "cache")
	}
	d.client.Transport = unixTransport(d.apiSocket())
	if err := d.start(ctx, "RUNNING"); err != nil {
		return nil, errors.Join(fmt.Errorf("start vrafsd: %w%s", err, d.Tail(10)), d.Close())
	}
	return d, nil
}

// unixTransport leads every request to the socket at path.
func unixTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

func (d *Daemon) apiSocket() string {
	if d.former == 0 {
		return filepath.Join(d.Dir, "api.sock")
	}
	return filepath.Join(d.Dir, fmt.Sprintf("api%d.sock", d.former))
}

// start starts the process, with more arguments, and waits for a state.
func (d *Daemon) start(ctx context.Context, state string, more ...string) error {
	if err := os.MkdirAll(d.opts.CacheDir, 0o755); err != nil {
		return err
	}
	args := []string{"virtiofs", "--sock", d.Socket}
	if d.opts.Mountpoint != "" {
		args = []string{"fuse", "--keeper", "off", "--mountpoint", d.opts.Mountpoint}
	}
	args = append(args, "--apisock", d.apiSocket(), "--log-level", "info")
	if d.opts.Bootstrap != "" {
		config, err := d.writeConfig()
		if err != nil {
			return err
		}
		args = append(args, "--bootstrap", d.opts.Bootstrap, "--config", config)
	}
	log, err := os.OpenFile(filepath.Join(d.Dir, daemonLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	d.cmd = exec.CommandContext(ctx, d.opts.Program, slices.Concat(args, d.opts.Args, more)...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.exited = make(chan struct{})
	go func() { _ = d.cmd.Wait(); close(d.exited) }()
	return d.await(ctx, state)
}

// await asks every 20 ms, as the daemon's real clients do (every 100 ms).
func (d *Daemon) await(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, daemonDeadline)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var info struct {
			State string `json:"state"`
		}
		err := d.API(ctx, http.MethodGet, "/api/v1/daemon", nil, &info)
		if err == nil && info.State == state {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("it ended: %v", d.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not %s within %v: state %q, %w", state, daemonDeadline, info.State, err)
		case <-tick.C:
		}
	}
}

func (d *Daemon) writeConfig() (string, error) {
	path := filepath.Join(d.Dir, "config.json")
	backend := d.opts.Backend
	if backend == nil {
		backend = localFS(d.opts.BlobDir)
	}
	return path, os.WriteFile(path, config("/vm", backend, d.opts.CacheDir), 0o600)
}

// Gone is closed when the process has ended.
func (d *Daemon) Gone() <-chan struct{} { return d.exited }

// Keep keeps the daemon's directory at Close.
func (d *Daemon) Keep() { d.keep = true }

// Tail is the end of the daemon's log, for messages.
func (d *Daemon) Tail(lines int) string {
	return tail("vrafsd", filepath.Join(d.Dir, daemonLog), lines)
}

// Close ends the daemon as an operator would, waits for it and removes its
// directory unless Keep was called. A daemon that does not go within 5 s is killed
// and reported.
func (d *Daemon) Close() error {
	d.client.CloseIdleConnections()
	var err error
	if d.exited != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(5 * time.Second):
			err = errors.New("vrafsd did not end within 5 s of SIGTERM")
			_ = d.cmd.Process.Kill()
			<-d.exited
		}
	}
	if d.keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(d.Dir))
}
