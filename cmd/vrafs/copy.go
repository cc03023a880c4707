package main

import (
	"context"
	"errors"
	"fmt"

	"vrafs/internal/cli"
	"vrafs/oci"
)

// A copyCommand holds the command line of copy, push and pull.
type copyCommand struct {
	access   access
	report   reporter
	src, dst oci.Ref
	o        oci.CopyOptions
	all      bool
}

func newCopy() *cli.Command {
	return (&copyCommand{}).command("copy", "Copy an image between registries, layouts and archives", nil)
}

func newPush() *cli.Command {
	return (&copyCommand{}).command("push", "Copy an image from a layout or an archive to a registry", func(c *copyCommand) error {
		if c.src.Kind == oci.KindRegistry || c.dst.Kind != oci.KindRegistry {
			return errors.New("push goes from a layout or an archive to a registry; use copy for other ways")
		}
		return nil
	})
}

func newPull() *cli.Command {
	return (&copyCommand{}).command("pull", "Copy an image from a registry to a layout or an archive", func(c *copyCommand) error {
		if c.src.Kind != oci.KindRegistry || c.dst.Kind == oci.KindRegistry {
			return errors.New("pull goes from a registry to a layout or an archive; use copy for other ways")
		}
		return nil
	})
}

func (c *copyCommand) command(name, about string, check func(*copyCommand) error) *cli.Command {
	cmd := &cli.Command{
		Name: name, About: about,
		Args: []*cli.Arg{
			{Name: "SRC", Help: "Image to copy: " + refHelp, Required: true, Set: setRef(&c.src)},
			{Name: "DST", Help: "Where to copy it to, in the same form", Required: true, Set: setRef(&c.dst)},
		},
		Options: append([]*cli.Option{
			{Long: "platform", Value: "platform", Help: "Platforms to copy, such as linux/arm64, separated by commas (default: all)", Many: true, Set: setPlatforms(&c.o.Platforms, &c.all)},
			{Long: "all-platforms", Help: "Copy the images of all platforms, which is the default", Set: cli.Flag(&c.all)},
			{Long: "allow-nondistributable", Help: "Copy layers that may not be distributed, too", Set: cli.Flag(&c.o.Nondistributable)},
			{Long: "parallel", Value: "number", Help: "Blobs to copy at a time", Default: "3", Set: setInt(&c.o.Parallel, 1, 64)},
		}, append(c.report.options(), c.access.sides()...)...),
		Run: c.run,
	}
	cmd.After = func() error {
		if check == nil {
			return nil
		}
		if err := check(c); err != nil {
			return cli.Usagef(cmd, "%v", err)
		}
		return nil
	}
	return cmd
}

func (c *copyCommand) run(ctx context.Context, env *cli.Env) error {
	if c.all {
		c.o.Platforms = nil
	}
	c.o.From, c.o.To = c.access.source(), c.access.dest()
	progress, done := c.report.start(env)
	c.o.Progress = progress
	r, err := oci.Copy(ctx, c.src, c.dst, c.o)
	done()
	if err != nil {
		return adviseOCI(err)
	}
	if c.report.json {
		return c.report.print(copyResult{"result", c.dst.String(), r.Digest.String(), r.Manifests, r.Blobs, r.Bytes, r.Found})
	}
	if !c.report.quiet {
		fmt.Fprintf(env.Stderr, "%d images, %d blobs copied (%s), %d were there\n", r.Manifests, r.Blobs, cli.Bytes(uint64(r.Bytes)), r.Found)
	}
	_, err = fmt.Fprintln(env.Stdout, r.Ref)
	return err
}

// copyResult is the last line of --json.
type copyResult struct {
	Event     string `json:"event"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	Images    int    `json:"images"`
	Blobs     int    `json:"blobs"`
	Bytes     int64  `json:"bytes"`
	Found     int    `json:"found"`
}
