package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"vrafs/api"
	"vrafs/config"
	"vrafs/fusesrv"
	"vrafs/internal/opener"
)

// singleton is the transport of a daemon whose file systems would be the kernel's: it
// brings no requests. What it is for are images that clients bind (bound.go).
type singleton struct {
	d *Daemon
}

func (s *singleton) resume() error { return nil }

// save keeps nothing: who bound images binds them again after a restart.
func (s *singleton) save() error { return nil }

// open binds what the command line names, then asks for the kernel's side.
func (s *singleton) open(context.Context) error {
	o := s.d.cfg.Singleton
	if o.List != "" {
		if err := s.d.bindList(o.List, s.d.cfg.Root.RegistryAuth); err != nil {
			return err
		}
	}
	if o.FSCache == "" {
		return nil
	}
	dir, err := s.d.o.Open(o.FSCache, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("--fscache needs a directory to cache files: %w", err)
	}
	_ = dir.Close()
	return s.noCachefiles()
}

// cachefiles is the kernel's side of fscache.
const cachefiles = "/dev/cachefiles"

// noCachefiles says why the kernel can't be served. The device is looked for and not
// opened: who opens it has the only cache.
func (s *singleton) noCachefiles() error {
	why := "this program does not answer the kernel's on-demand cachefiles"
	if f, err := s.d.o.Open(cachefiles, unix.O_PATH, 0); err == nil {
		_ = f.Close()
	} else if errors.Is(err, os.ErrNotExist) {
		why = "this kernel has no " + cachefiles + " (CONFIG_CACHEFILES_ONDEMAND)"
	}
	return fmt.Errorf("--fscache: %s; mount the images with fuse or virtiofs, or leave --fscache out", why)
}

func (s *singleton) serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s *singleton) stale(uint64, string) {}

func (s *singleton) close(bool) {}

// upgrade: only a daemon that holds the kernel's cache has something to hand over.
func (s *singleton) upgrade(_ context.Context, a api.Action) error {
	switch o := s.d.cfg.Singleton; {
	case a != api.Takeover:
		return errUnsupported
	case s.d.cfg.Supervisor == "":
		return errNoSupervisor
	case o.FSCache == "":
		return errUnsupported
	}
	return s.noCachefiles()
}

func (s *singleton) inflight() ([]api.Inflight, error) { return nil, errUnsupported }

func (s *singleton) abort(func(fusesrv.Inflight) bool) int { return 0 }

func (s *singleton) families(f *familySet) {
	f.gauge("vrafs_bound_images", "Images bound to the daemon.", float64(len(s.d.mounts.list())))
}

// bindList binds the images that a file names; auth replaces their registry
// credentials unless empty.
func (d *Daemon) bindList(path, auth string) error {
	f, _, err := opener.Regular(d.o, path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	list, err := config.ParseBlobEntries(text)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	for i, e := range list {
		if auth != "" {
			err = e.Config.SetRegistryAuth(auth)
		}
		if err == nil {
			err = d.bind(e)
		}
		if err != nil {
			return fmt.Errorf("configuration %s: blobs[%d]: %w", path, i, err)
		}
	}
	return nil
}
