package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"vrafs/build"
	"vrafs/internal/cli"
)

// An unpack holds the command line of nydus-image unpack.
type unpack struct {
	place  place
	output string
}

func newUnpack() *cli.Command {
	u := &unpack{}
	blob, dir := u.place.blobOption(), u.place.dirOption()
	dir.Conflicts = []string{"blob", "backend-type"}
	blob.Conflicts = []string{"backend-type"}
	return &cli.Command{
		Name:  "unpack",
		About: "Unpack an image to a tar",
		Args:  []*cli.Arg{u.place.bootstrapArg()},
		Options: append([]*cli.Option{
			u.place.bootstrapOption(), blob, dir,
			{Long: "output", Value: "output", Help: "File to write the tar to; may be a FIFO", Required: true, Set: cli.Str(&u.output)},
			u.place.configOption(), u.place.unverifiedOption(),
		}, u.place.backendOptions()...),
		Run: u.run,
	}
}

func (u *unpack) run(ctx context.Context, env *cli.Env) error {
	im, err := u.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	f, err := os.OpenFile(u.output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("create tar: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		show, done := progress(env)
		o := build.UnpackOptions{Progress: show, AllowUnverified: u.place.unverified}
		o.Skipped = func(path string) { env.Log.Warn(fmt.Sprintf("socket %q left out: a tar can't hold it", path)) }
		err = build.Unpack(ctx, im.input(), f, o)
		done()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		if st != nil && st.Mode().IsRegular() {
			os.Remove(u.output)
		}
		err = needDigests(fmt.Errorf("unpack %s: %w", im.path, err))
		if im.blobs == nil {
			err = cli.Hint(err, "say where the data blobs are, with -b, -D or --backend-type")
		}
	}
	return err
}
