package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"vrafs/internal/cli"
	"vrafs/internal/keeper"
	"vrafs/internal/logsink"
	"vrafs/internal/opener"
)

// keep is the life of a keeper process.
func (p *program) keep(env *cli.Env) error {
	p.cfg.Opener = opener.Local()
	p.cfg.Level = &slog.LevelVar{}
	p.cfg.Level.Set(p.level())
	err := keeper.Run(os.Args, func(text string) { p.say(env.Stderr, slog.LevelWarn, text) })
	if err != nil {
		p.say(env.Stderr, slog.LevelError, err.Error())
	}
	return err
}

// say adds a line to the server's log. The file is opened anew for each: it is the
// server that rotates it.
func (p *program) say(stderr io.Writer, level slog.Level, text string) {
	out := stderr
	if p.logFile != "" {
		f, err := logsink.OpenFile(p.cfg.Opener, p.logFile, 0)
		if err != nil {
			return // there is nobody to tell
		}
		defer f.Close()
		out = f
	}
	p.logger(out, stderr).Log(context.Background(), level, text)
}
