package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/internal/cli"
	"vrafs/internal/opener"
)

// A stat holds the command line of nydus-image stat.
type stat struct {
	bootstrap string
	dir       string
	target    string
	config    string
	digester  string
	output    string
}

func newStat() *cli.Command {
	s := &stat{}
	return &cli.Command{
		Name:  "stat",
		About: "Count files and chunks of images, and what images share",
		Options: []*cli.Option{
			{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "Image to count", RequiredUnless: []string{"blob-dir"}, Set: cli.Str(&s.bootstrap)},
			{Long: "blob-dir", Short: 'D', Value: "blob-dir", Help: "Directory of images to count together", Conflicts: []string{"bootstrap"}, Set: cli.Str(&s.dir)},
			{Long: "target", Short: 'T', Value: "target", Help: "Image to compare with them", Set: cli.Str(&s.target)},
			{Long: "config", Short: 'C', Value: "config", Help: "Configuration file (JSON or TOML) of the storage", Set: cli.Str(&s.config)},
			{Long: "digester", Value: "digester", Help: "Digester that the images must have", Choices: []string{"blake3", "sha256"}, Set: cli.Str(&s.digester)},
			outputOption(&s.output),
		},
		Run: s.run,
	}
}

func (s *stat) run(ctx context.Context, env *cli.Env) error {
	if s.config != "" {
		if _, err := readConfig(s.config); err != nil {
			return err
		}
	}
	paths := []string{s.bootstrap}
	if s.dir != "" {
		var err error
		if paths, err = imagesIn(env, s.dir); err != nil {
			return err
		}
	}
	images, closeAll, err := openAll(paths)
	if err != nil {
		return err
	}
	defer closeAll()
	var target *build.Image
	closeTarget, err := openInputs(input{s.target, &target})
	if err != nil {
		return err
	}
	defer closeTarget()
	var o build.StatOptions
	if d, ok := digesters[s.digester]; ok {
		o.Digester = &d
	}
	r, err := build.Stat(ctx, images, target, o)
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if s.output != "" {
		return writeJSON(s.output, r, true)
	}
	return printStat(env.Stdout, r)
}

// openAll opens the images of several files.
func openAll(paths []string) ([]build.Image, func(), error) {
	ptrs, inputs := make([]*build.Image, len(paths)), make([]input, len(paths))
	for i, p := range paths {
		inputs[i] = input{p, &ptrs[i]}
	}
	closeAll, err := openInputs(inputs...)
	if err != nil {
		return nil, nil, err
	}
	images := make([]build.Image, len(ptrs))
	for i, p := range ptrs {
		images[i] = *p
	}
	return images, closeAll, nil
}

// imagesIn lists the files in dir that are images; others are passed over with a
// message.
func imagesIn(env *cli.Env, dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		b, err := bootload.Open(opener.Local(), path)
		if err != nil {
			env.Log.Warn(fmt.Sprintf("%s passed over: %v", path, err))
			continue
		}
		b.Close()
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no image in %s", dir)
	}
	return paths, nil
}

// printStat shows the counts as a table.
func printStat(w io.Writer, r *build.StatReport) error {
	var b strings.Builder
	show := func(title string, s *build.ImageStat, shared bool) {
		fmt.Fprintf(&b, "%s\n  directories %d, files %d, symlinks %d, file bytes %d\n", title, s.Dirs, s.Files, s.Symlinks, s.FileSize)
		fmt.Fprintf(&b, "  chunks %d: %d bytes, %d stored, %d of padding\n", s.Chunks, s.UncompSize, s.CompSize, s.PaddingSize)
		fmt.Fprintf(&b, "  distinct chunks %d: %d bytes, %d stored\n", s.DedupChunks, s.DedupUncompSize, s.DedupCompSize)
		if shared {
			fmt.Fprintf(&b, "  shared with the base %d: %d bytes, %d stored\n", s.RefChunks, s.RefUncompSize, s.RefCompSize)
			fmt.Fprintf(&b, "  its own %d: %d bytes, %d stored\n", s.OwnChunks, s.OwnUncompSize, s.OwnCompSize)
		}
	}
	show("base image", &r.Base, false)
	if r.TargetEnabled {
		show("target image", &r.Target, true)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
