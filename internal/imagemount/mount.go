package imagemount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vrafs/internal/apiclient"
	"vrafs/oci"
)

// Options say what to mount and how.
type Options struct {
	Ref    oci.Ref
	Dir    string // mountpoint
	Access oci.Options
	Home   string // of state directories
	// Daemon is the program vrafsd.
	Daemon string
	// CacheDir keeps data; CacheLimit is what it may take on the disk, in MiB.
	CacheDir   string
	CacheLimit uint64
}

// startLimit is how long a daemon may take until it serves. It waits for nothing but
// the kernel.
const startLimit = 20 * time.Second

// Mount mounts the Nydus image that o.Ref names and returns when it can be read. The
// daemon goes on after the calling process. The result is its control socket.
func Mount(ctx context.Context, o Options) (socket string, err error) {
	st, err := os.Stat(o.Dir)
	if err != nil {
		return "", fmt.Errorf("mountpoint: %w", err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("mountpoint %s: not a directory", o.Dir)
	}
	o.Access.Want = oci.WantNydus
	im, err := oci.Resolve(ctx, o.Ref, o.Access)
	if err != nil {
		return "", err
	}
	defer im.Close()
	if _, err := im.BootstrapLayer(); err != nil {
		return "", err
	}
	config, err := configuration(im, o.CacheDir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.CacheDir, 0o700); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	p, err := placeOf(o.Home, o.Dir)
	if err != nil {
		return "", err
	}
	s, err := p.create(ctx, note{Ref: im.Ref.String(), Digest: im.Desc.Digest.String(), Dir: p.at})
	if err != nil {
		return "", err
	}
	defer s.out.Close()
	if err := s.start(ctx, &o, im, config); err != nil {
		return "", errors.Join(err, os.RemoveAll(s.dir))
	}
	return s.path(socketName), nil
}

// start brings the image to where it can be read; nothing is left running if it fails.
func (s *state) start(ctx context.Context, o *Options, im *oci.Image, config string) error {
	if err := saveBootstrap(ctx, im, s.path(bootstrapName)); err != nil {
		return err
	}
	d, err := s.exec(o)
	if err != nil {
		return err
	}
	if err := d.serve(ctx, config); err != nil {
		d.end()
		return err
	}
	return d.cmd.Process.Release()
}

// A daemon is the process that was started.
type daemon struct {
	s    *state
	cmd  *exec.Cmd
	done chan error // how it ended
}

// exec starts the daemon, in a session of its own: it stays when the terminal goes.
func (s *state) exec(o *Options) (*daemon, error) {
	args := []string{"fuse", "--mountpoint", s.at, "--apisock", s.path(socketName), "--log-file", s.path(logName)}
	if o.CacheLimit > 0 {
		args = append(args, "--cache-limit", strconv.FormatUint(o.CacheLimit, 10))
	}
	d := &daemon{s: s, cmd: exec.Command(o.Daemon, args...), done: make(chan error, 1)}
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = "/", s.out, s.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	return d, nil
}

// serve waits for the daemon and has it mount the image.
func (d *daemon) serve(ctx context.Context, config string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c := apiclient.New(d.s.path(socketName))
	defer c.Close()
	if err := d.running(ctx, c); err != nil {
		return err
	}
	body, err := json.Marshal(object{"fs_type": "rafs", "source": d.s.path(bootstrapName), "config": config})
	if err != nil {
		return err
	}
	if _, err := c.Do(ctx, "POST", "/api/v1/mount?mountpoint=/", body); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// running waits until the daemon says that it is running.
func (d *daemon) running(ctx context.Context, c *apiclient.Client) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var info struct{ State string }
		if err := c.Get(ctx, "/api/v1/daemon", &info); err == nil && info.State == "RUNNING" {
			return nil
		}
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("the daemon ended before it served: %s", d.said())
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not begin to serve: %w; %s", context.Cause(ctx), d.said())
		case <-tick.C:
		}
	}
}

// said is the last line that the daemon wrote.
func (d *daemon) said() string {
	for _, name := range []string{outputName, logName} {
		text, err := os.ReadFile(d.s.path(name))
		if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); err == nil && lines[0] != "" {
			return lines[len(lines)-1]
		}
	}
	return "it wrote nothing"
}

// end ends the daemon and takes its mount away.
func (d *daemon) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(endLimit):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
}

// Program finds vrafsd beside the running program or in $PATH.
func Program() (string, error) {
	self, err := os.Executable()
	if err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			path := filepath.Join(filepath.Dir(self), "vrafsd")
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				return path, err
			}
		}
	}
	path, err := exec.LookPath("vrafsd")
	if err != nil {
		return "", errors.New("no program vrafsd beside vrafs or in $PATH")
	}
	return path, nil
}
