package main

import (
	"context"
	"errors"

	"vrafs/internal/cli"
)

// nbd would export an image as a block device.
func (p *program) nbd() *cli.Command {
	var device string
	return &cli.Command{
		Name:    "nbd",
		About:   "Export an image as a network block device (not offered: says what is missing)",
		Args:    []*cli.Arg{{Name: "DEVICE", Help: "/dev/nbdN", Required: true, Set: cli.Str(&device)}},
		Options: p.blockOptions(),
		Run: func(context.Context, *cli.Env) error {
			return errors.New("nbd: this program serves no block devices; make a disk image with `vrafs export --block`")
		},
	}
}

// uffd would answer page faults of a VMM.
func (p *program) uffd() *cli.Command {
	var sock string
	return &cli.Command{
		Name:    "uffd",
		About:   "Serve page faults of an image's disk (not offered: says what is missing)",
		Options: append(p.blockOptions(), &cli.Option{Long: "sock", Short: 'S', Value: "sock", Help: "Socket for clients", Required: true, Set: cli.Str(&sock)}),
		Run: func(context.Context, *cli.Env) error {
			return errors.New("uffd: this program serves no userfaultfd clients; make a disk image with `vrafs export --block`")
		},
	}
}

func (p *program) blockOptions() []*cli.Option {
	var threads uint
	r := &p.cfg.Root
	return []*cli.Option{
		{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "RAFS v6 metadata", Set: cli.Str(&r.Bootstrap)},
		{Long: "localfs-dir", Short: 'D', Value: "localfs-dir", Help: "Directory of blobs", Conflicts: []string{"config"}, Set: cli.Str(&r.LocalDir)},
		{Long: "threads", Value: "threads", Help: "Number of threads", Default: "4", Set: cli.Uint(&threads, 1, 1024)},
	}
}
