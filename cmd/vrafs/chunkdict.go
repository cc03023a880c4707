package main

import (
	"context"
	"fmt"

	"vrafs/build"
	"vrafs/internal/cli"
)

// A chunkdict holds the command line of nydus-image chunkdict generate.
type chunkdict struct {
	sources   []string
	bootstrap string
	dir       string
	prefetch  string
	database  string
	config    string
	output    string
	verbose   bool
}

func newChunkdict() *cli.Command {
	c := &chunkdict{prefetch: "none", database: "sqlite:///home/runner/output/database.db"}
	database := &cli.Option{Long: "database", Value: "database", Help: "Accepted for nydus-image's sake: chunks are kept in memory, no database is written",
		Default: c.database, Set: cli.Str(&c.database)}
	generate := &cli.Command{
		Name:  "generate",
		About: "Make a dictionary of the chunks that images share",
		Args:  []*cli.Arg{{Name: "BOOTSTRAP", Help: "Images to find shared chunks in", Required: true, Many: true, Set: cli.Strings(&c.sources)}},
		Options: []*cli.Option{
			database,
			{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "File for the dictionary", RequiredUnless: []string{"blob-dir"}, Set: cli.Str(&c.bootstrap)},
			{Long: "blob-dir", Short: 'D', Value: "blob-dir", Help: "Directory for the dictionary if it has no file, named by its digest", Set: cli.Str(&c.dir)},
			prefetchOption(&c.prefetch),
			outputOption(&c.output),
			{Long: "config", Short: 'C', Value: "config", Help: "Configuration file (JSON or TOML) of the storage", Set: cli.Str(&c.config)},
			{Long: "verbose", Short: 'v', Help: "Log how many chunks each image has", Set: cli.Flag(&c.verbose)},
		},
	}
	generate.Run = func(ctx context.Context, env *cli.Env) error {
		if database.Given() {
			env.Log.Warn("--database is ignored: the dictionary is made in memory")
		}
		return c.run(ctx, env)
	}
	return &cli.Command{Name: "chunkdict", About: "Work with chunk dictionaries", Commands: []*cli.Command{generate}}
}

func (c *chunkdict) run(ctx context.Context, env *cli.Env) error {
	var o build.ChunkDictOptions
	var err error
	if c.config != "" {
		if _, err := readConfig(c.config); err != nil {
			return err
		}
	}
	if o.Prefetch, err = readPrefetch(env, c.prefetch, ""); err != nil {
		return err
	}
	images, closeAll, err := openAll(c.sources)
	if err != nil {
		return err
	}
	defer closeAll()
	if c.verbose {
		for i := range images {
			s, err := build.Stat(ctx, images[i:i+1], nil, build.StatOptions{})
			if err != nil {
				return err
			}
			env.Log.Info(fmt.Sprintf("%s: %d chunks, %d distinct", c.sources[i], s.Base.Chunks, s.Base.DedupChunks))
		}
	}
	r, err := build.ChunkDict(ctx, images, build.Sink{Bootstrap: c.bootstrap, BlobDir: c.dir}, o)
	if err != nil {
		return fmt.Errorf("chunkdict: %w", err)
	}
	logSuccess(env, r)
	return writeJSON(c.output, newOutput(r), true)
}
