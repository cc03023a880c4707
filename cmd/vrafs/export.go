package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"vrafs/build"
	"vrafs/internal/cli"
)

// An export holds the command line of nydus-image export.
type export struct {
	cmd     *cli.Command
	place   place
	block   bool
	verity  bool
	threads int
	output  string
}

func newExport() *cli.Command {
	e := &export{}
	threads := uint(4)
	dir := e.place.dirOption()
	dir.Long, dir.Value, dir.Aliases = "localfs-dir", "localfs-dir", []string{"blob-dir"}
	dir.Conflicts = []string{"config"}
	bootstrap, configuration := e.place.bootstrapOption(), e.place.configOption()
	configuration.Help += "; without -B an entry with a metadata_path"
	bootstrap.RequiredUnless = []string{"config"}
	e.cmd = &cli.Command{
		Name:  "export",
		About: "Export an image as a disk that Linux EROFS mounts",
		Options: []*cli.Option{
			{Long: "block", Help: "Export a raw block device image", Required: true, Set: cli.Flag(&e.block)},
			bootstrap, dir, configuration,
			{Long: "threads", Value: "threads", Help: "Number of threads, 1 to 32", Default: "4", Set: cli.Uint(&threads, 1, 32)},
			{Long: "output", Short: 'O', Value: "output", Help: "File to write the disk to (default: <localfs-dir>/<bootstrap name>.disk)",
				RequiredUnless: []string{"localfs-dir"}, Set: cli.Str(&e.output)},
			{Long: "verity", Help: "Append a dm-verity hash tree and print the options for it", Set: cli.Flag(&e.verity)},
		},
		Run: func(ctx context.Context, env *cli.Env) error {
			e.threads = int(threads)
			return e.run(ctx, env)
		},
	}
	return e.cmd
}

func (e *export) run(ctx context.Context, env *cli.Env) error {
	if e.place.bootstrap == "" {
		if err := e.place.fromEntry(); err != nil {
			return err
		}
	}
	im, err := e.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	if err := im.needBlobs(); err != nil {
		return err
	}
	path := e.output
	if path == "" {
		path = filepath.Join(e.place.dir, im.Name+".disk")
	}
	disk, err := createDisk(path)
	if err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	show, done := progress(env)
	r, err := build.ExportBlock(ctx, im.input(), disk, build.ExportOptions{Threads: e.threads, Verity: e.verity, Progress: show})
	done()
	if err = errors.Join(err, disk.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("export %s: %w", im.path, err)
	}
	if e.verity {
		_, err = fmt.Fprintf(env.Stdout, "dm-verity options: --no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=%d --hash-block-size=4096 --data-blocks %d --hash-offset %d %x\n",
			r.DataBlockSize, r.DataBlocks, r.HashOffset, r.RootHash)
	}
	return err
}

// createDisk opens a new or regular file at path. A device can't be cut to the size
// of a disk, and must not be removed when something fails. It is found before it is
// opened, since a FIFO would wait for its reader.
func createDisk(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, cli.Hint(fmt.Errorf("%s is not a regular file", cli.Quote(path)), "write to a file and copy that to the device")
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}
