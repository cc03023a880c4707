package main

import (
	"context"

	"vrafs/internal/cli"
	"vrafs/internal/daemon"
)

// singleton runs a daemon for images that clients bind over the API.
func (p *program) singleton() *cli.Command {
	s := daemon.Singleton{Threads: 4}
	var tag string // of a cache that is not served
	return &cli.Command{
		Name:  "singleton",
		About: "Keep and prefetch images that are bound over the API; the kernel's fscache is not served",
		Options: []*cli.Option{
			{Long: "fscache", Short: 'F', Value: "fscache", Help: "Working directory of cachefiles (says what is missing)", Set: cli.Str(&s.FSCache)},
			{Long: "fscache-tag", Value: "fscache-tag", Help: "Tag of the cache", Requires: []string{"fscache"}, Set: cli.Str(&tag)},
			{Long: "fscache-threads", Value: "fscache-threads", Help: "Number of threads", Default: "4", Set: cli.Uint(&s.Threads, 1, 1024)},
		},
		Run: func(ctx context.Context, env *cli.Env) error {
			s.List, p.cfg.Singleton = p.cfg.Root.ConfigFile, &s
			return p.serve(ctx, env)
		},
	}
}
