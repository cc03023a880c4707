package main

import (
	"context"
	"fmt"

	"vrafs/build"
	"vrafs/internal/cli"
)

// A compact holds the command line of nydus-image compact.
type compact struct {
	place  place
	dict   string
	out    string
	output string
	o      build.CompactOptions
}

func newCompact() *cli.Command {
	c := &compact{o: build.CompactOptions{MinUsedRatio: 5, CompactBlobSize: 10485760, MaxCompactSize: 104857600}}
	ratio, layers := uint(c.o.MinUsedRatio), uint(0)
	bootstrap, dir := c.place.bootstrapOption(), c.place.dirOption()
	bootstrap.Required, dir.Required = true, true
	return &cli.Command{
		Name:  "compact",
		About: "Rewrite blobs with few used chunks, merge small blobs, drop unused ones",
		Options: append([]*cli.Option{
			bootstrap, dir, c.place.configOption(),
			{Long: "min-used-ratio", Value: "min-used-ratio", Help: "Rebuild blobs of which less than this percentage is used, 0 to 99", Default: "5", Set: cli.Uint(&ratio, 0, 99)},
			{Long: "compact-blob-size", Value: "compact-blob-size", Help: "Merge blobs of fewer bytes than this", Default: "10485760", Set: cli.Uint(&c.o.CompactBlobSize, 0, 1<<40)},
			{Long: "max-compact-size", Value: "max-compact-size", Help: "Let no merged blob grow beyond this many bytes", Default: "104857600", Set: cli.Uint(&c.o.MaxCompactSize, 0, 1<<40)},
			{Long: "layers-to-compact", Value: "layers-to-compact", Help: "Do nothing for images of fewer blobs; 0 is always", Default: "0", Set: cli.Uint(&layers, 0, 1<<20)},
			{Long: "chunk-dict", Value: "chunk-dict", Help: "Image whose blobs are left alone: bootstrap=FILE, or the file alone", Set: cli.Str(&c.dict)},
			{Long: "output-bootstrap", Short: 'O', Value: "output-bootstrap", Help: "File for the new bootstrap (default: <bootstrap>.compact)", Set: cli.Str(&c.out)},
			outputOption(&c.output),
		}, c.place.backendOptions()...),
		Run: func(ctx context.Context, env *cli.Env) error {
			c.o.MinUsedRatio, c.o.LayersToCompact = int(ratio), int(layers)
			return c.run(ctx, env)
		},
	}
}

func (c *compact) run(ctx context.Context, env *cli.Env) error {
	closeInputs, err := openInputs(input{dictPath(c.dict), &c.o.ChunkDict})
	if err != nil {
		return err
	}
	defer closeInputs()
	im, err := c.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	if c.out == "" {
		c.out = im.path + ".compact"
	}
	r, err := build.Compact(ctx, im.input(), build.Sink{Bootstrap: c.out, BlobDir: c.place.dir}, c.o)
	if err != nil {
		return fmt.Errorf("compact %s: %w", im.path, err)
	}
	logSuccess(env, r)
	return writeJSON(c.output, newOutput(r), true)
}
