package daemon

import (
	"errors"
	"fmt"
	"io"
	"path"
	"sync/atomic"

	"vrafs/api"
	"vrafs/config"
	"vrafs/fusesrv"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/opener"
)

// A content is what is mounted.
type content struct {
	kind    string // "Rafs", as the API calls it
	fs      mountfs.Mountable
	options mountfs.MountOptions
	stats   atomic.Pointer[fusesrv.Stats] // set when it is in the tree
	image   *image                        // nil for what is none
	// start begins what goes on in the background once it is mounted.
	start func()
	// close releases everything, once. Nobody asks for it any more.
	close func()
}

// isShared reports whether a type of file system is a shared directory.
func isShared(fsType string) bool {
	return fsType == "passthrough" || fsType == "passthroughfs" || fsType == sharedType
}

// openContent opens what a mount command names.
func (d *Daemon) openContent(place string, cmd api.MountCmd, o mountOptions) (*content, error) {
	switch {
	case isShared(cmd.FSType):
		return d.openShared(cmd.Source)
	case cmd.FSType != "rafs":
		return nil, fmt.Errorf("invalid argument `only 'rafs' and 'passthrough_fs' are supported, but %.64s was specified`", cmd.FSType)
	}
	c := o.config
	if c == nil {
		var err error
		if c, err = config.Parse([]byte(cmd.Config)); err != nil {
			return nil, err
		}
	}
	im, err := d.openImage(place, cmd, c, o.since)
	if err != nil {
		return nil, err
	}
	return &content{kind: "Rafs", fs: im.view, options: im.mount, image: im, start: im.start, close: im.close}, nil
}

// A rootMount is what the command line says is to be mounted.
type rootMount struct {
	cmd    api.MountCmd
	config *config.Config // of an image
}

// rootMount reads the command line; nil if there is nothing to mount.
func (d *Daemon) rootMount() (*rootMount, error) {
	r := &d.cfg.Root
	switch {
	case r.SharedDir != "":
		return &rootMount{cmd: api.MountCmd{Source: r.SharedDir, FSType: sharedType}}, nil
	case r.Bootstrap == "":
		return nil, nil
	case r.LocalDir == "" && r.ConfigFile == "":
		return nil, errors.New("invalid argument `both --config and --localfs-dir are missing`")
	}
	for _, f := range r.PrefetchFiles {
		if !path.IsAbs(f) {
			return nil, errors.New("invalid prefetch file list")
		}
	}
	m := &rootMount{cmd: api.MountCmd{Source: r.Bootstrap, FSType: "rafs", PrefetchFiles: r.PrefetchFiles}}
	if r.LocalDir != "" {
		m.config = config.LocalDir(r.LocalDir)
		return m, nil
	}
	var err error
	m.config, err = d.readConfig(r.ConfigFile, r.RegistryAuth)
	return m, err
}

// readConfig reads a configuration file; auth replaces its registry credentials
// unless empty.
func (d *Daemon) readConfig(file, auth string) (*config.Config, error) {
	f, _, err := opener.Regular(d.o, file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	c, err := config.Parse(text)
	if err == nil && auth != "" {
		err = c.SetRegistryAuth(auth)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	return c, nil
}
