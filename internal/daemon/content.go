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

// openContent opens what a mount command names.
func (d *Daemon) openContent(place string, cmd api.MountCmd, o mountOptions) (*content, error) {
	switch cmd.FSType {
	case "rafs":
	case "passthrough", "passthroughfs", "passthrough_fs":
		return nil, errors.New("invalid argument `passthrough_fs is not built into this version; only rafs can be mounted`")
	default:
		return nil, fmt.Errorf("invalid argument `only 'rafs' and 'passthrough_fs' are supported, but %.64s was specified`", cmd.FSType)
	}
	c := o.root
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

// rootCmd is the command line as a mount command; the configuration is nil if
// there is nothing to mount.
func (d *Daemon) rootCmd() (api.MountCmd, *config.Config, error) {
	r := &d.cfg.Root
	switch {
	case r.SharedDir != "":
		return api.MountCmd{}, nil, errors.New("--shared-dir is not built into this version; mount an image with --bootstrap")
	case r.Bootstrap == "":
		return api.MountCmd{}, nil, nil
	case r.LocalDir == "" && r.ConfigFile == "":
		return api.MountCmd{}, nil, errors.New("invalid argument `both --config and --localfs-dir are missing`")
	}
	for _, f := range r.PrefetchFiles {
		if !path.IsAbs(f) {
			return api.MountCmd{}, nil, errors.New("invalid prefetch file list")
		}
	}
	cmd := api.MountCmd{Source: r.Bootstrap, FSType: "rafs", PrefetchFiles: r.PrefetchFiles}
	if r.LocalDir != "" {
		return cmd, config.LocalDir(r.LocalDir), nil
	}
	c, err := d.readConfig(r.ConfigFile, r.RegistryAuth)
	return cmd, c, err
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
