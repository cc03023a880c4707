package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"vrafs/internal/cli"
	"vrafs/internal/imagemount"
	"vrafs/oci"
)

// A mount holds the command line of vrafs mount.
type mount struct {
	access access
	dir    string
	o      imagemount.Options
}

// defaultCacheLimit is what the data of mounted images may take, in MiB.
const defaultCacheLimit = 10 << 10

func newMount() *cli.Command {
	m := &mount{o: imagemount.Options{CacheLimit: defaultCacheLimit}}
	return &cli.Command{
		Name:  "mount",
		About: "Mount a Nydus image of a registry or layout; data comes when it is read",
		Options: append([]*cli.Option{
			{Long: "platform", Value: "platform", Help: "Image to take from an index, such as linux/arm64 (default: this machine's)", Set: m.setPlatform},
			{Long: "cache-dir", Value: "cache-dir", Help: "Where data is kept (default: vrafs/blobs in the user's cache directory)", Set: cli.Str(&m.o.CacheDir)},
			{Long: "cache-limit", Value: "MiB", Help: "What the data of all mounts may take on the disk; 0 for no limit", Default: fmt.Sprint(defaultCacheLimit), Set: cli.Uint(&m.o.CacheLimit, 0, 1<<40)},
			{Long: "state-dir", Value: "state-dir", Help: "Where what belongs to a mount is kept (default: " + "/run/vrafs/mounts, or in $XDG_RUNTIME_DIR)", Set: cli.Str(&m.o.Home)},
			{Long: "daemon", Value: "daemon", Help: "Program to serve it (default: vrafsd beside vrafs, or in $PATH)", Set: cli.Str(&m.o.Daemon)},
		}, m.access.options()...),
		Args: []*cli.Arg{
			{Name: "REF", Help: "Image: [docker://]HOST/REPOSITORY:TAG or oci:DIR:TAG", Required: true, Set: setRef(&m.o.Ref)},
			{Name: "DIR", Help: "Directory to mount it on", Required: true, Set: cli.Str(&m.dir)},
		},
		Run: m.run,
	}
}

func (m *mount) run(ctx context.Context, env *cli.Env) (err error) {
	if m.o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return cli.Hint(err, "give --cache-dir")
		}
		m.o.CacheDir = filepath.Join(dir, "vrafs", "blobs")
	}
	if m.o.CacheDir, err = filepath.Abs(m.o.CacheDir); err != nil {
		return err
	}
	if m.o.Home == "" {
		m.o.Home = imagemount.Home()
	}
	if m.o.Daemon == "" {
		if m.o.Daemon, err = imagemount.Program(); err != nil {
			return cli.Hint(err, "give --daemon")
		}
	}
	m.o.Dir, m.o.Access.Access = m.dir, m.access.one()
	socket, err := imagemount.Mount(ctx, m.o)
	if errors.Is(err, oci.ErrUnsupported) {
		return cli.Hint(err, "vrafs convert %s NEW-REF makes one", m.o.Ref)
	}
	if err != nil {
		return adviseOCI(err)
	}
	_, err = fmt.Fprintf(env.Stdout, "%s is mounted on %s; control socket %s\n", m.o.Ref, m.dir, socket)
	return err
}

func (m *mount) setPlatform(v string) error {
	p, err := oci.ParsePlatform(v)
	m.o.Access.Platform = &p
	return err
}

// An umount holds the command line of vrafs umount.
type umount struct {
	dir, home string
	lazy      bool
}

func newUmount() *cli.Command {
	u := &umount{}
	return &cli.Command{
		Name:  "umount",
		About: "Unmount what vrafs mount has mounted",
		Options: []*cli.Option{
			{Long: "lazy", Help: "Also if it is in use: those who use it go on until they end", Set: cli.Flag(&u.lazy)},
			{Long: "state-dir", Value: "state-dir", Help: "As with vrafs mount", Set: cli.Str(&u.home)},
		},
		Args: []*cli.Arg{{Name: "DIR", Help: "Directory that it is mounted on", Required: true, Set: cli.Str(&u.dir)}},
		Run:  u.run,
	}
}

func (u *umount) run(ctx context.Context, _ *cli.Env) error {
	if u.home == "" {
		u.home = imagemount.Home()
	}
	err := imagemount.Unmount(ctx, u.home, u.dir, u.lazy)
	if errors.Is(err, imagemount.ErrBusy) {
		return cli.Hint(err, "or give --lazy")
	}
	return err
}
