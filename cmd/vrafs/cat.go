package main

import (
	"context"
	"fmt"

	"vrafs/internal/chunkread"
	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
)

// A cat holds the command line of cat.
type cat struct {
	place place
	paths []string
}

func newCat() *cli.Command {
	c := &cat{}
	return &cli.Command{
		Name: "cat", About: "Write files of an image to standard output, verified",
		Args: []*cli.Arg{
			{Name: "IMAGE", Help: "File of the bootstrap, or data blob with the bootstrap inside", Required: true, Set: cli.Str(&c.place.positional)},
			{Name: "PATH", Help: "Files in the image; symlinks are followed inside it", Required: true, Many: true, Set: cli.Strings(&c.paths)},
		},
		Options: append([]*cli.Option{c.place.blobOption(), c.place.dirOption(), c.place.configOption(), c.place.unverifiedOption()}, c.place.backendOptions()...),
		Run:     c.run,
	}
}

func (c *cat) run(ctx context.Context, env *cli.Env) error {
	im, err := c.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	r := chunkread.New(im.Image, im.blobs, chunkread.Options{AllowUnverified: c.place.unverified})
	defer r.Close()
	for _, p := range c.paths {
		n, err := imagewalk.Follow(im.Image, p)
		if err != nil {
			return err
		}
		if !n.IsRegular() {
			return fmt.Errorf("%s: not a regular file but %s", cli.Quote(p), modeText(n.Mode()))
		}
		if n.Size() > 0 {
			if err := im.needBlobs(); err != nil {
				return err
			}
		}
		err = r.Stream(ctx, 0, chunkread.FileChunks(im.Image, &n), func(p chunkread.Piece) error {
			_, err := env.Stdout.Write(p.Data)
			return err
		})
		if err != nil {
			return needDigests(fmt.Errorf("%s: %w", cli.Quote(p), err))
		}
	}
	return nil
}
