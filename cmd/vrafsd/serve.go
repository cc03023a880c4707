package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"vrafs/internal/backends"
	"vrafs/internal/cli"
	"vrafs/internal/daemon"
	"vrafs/internal/filelist"
	"vrafs/internal/logsink"
	"vrafs/internal/opener"
)

// endLimit is how long a signalled daemon may take.
const endLimit = 900 * time.Millisecond

// flushLimit is how long the end of the process waits for its last log lines.
const flushLimit = 50 * time.Millisecond

// serve runs a daemon until it ends or ctx does.
func (p *program) serve(ctx context.Context, env *cli.Env) error {
	p.cfg.Opener = opener.Local()
	out, err := p.logOutput(env.Stderr)
	if err != nil {
		return err
	}
	sink := logsink.Start(out)
	defer sink.Close(flushLimit)
	p.cfg.Level = &slog.LevelVar{}
	p.cfg.Level.Set(p.level())
	p.cfg.Log = p.logger(sink, env.Stderr)
	if err := p.complete(env); err != nil {
		return p.advise(err)
	}
	done := make(chan error, 1)
	go func() {
		d, err := daemon.Start(ctx, p.cfg)
		if err != nil {
			done <- p.advise(err)
			return
		}
		done <- d.Wait()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Even the start may hang, in a file system that doesn't answer.
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
	return nil
}

// logger writes to out, which leads to stderr unless there is a log file.
func (p *program) logger(out, stderr io.Writer) *slog.Logger {
	return slog.New(cli.NewLogHandler(out, cli.LogOptions{Level: p.cfg.Level, Color: p.logFile == "" && cli.Terminal(stderr)}))
}

// logOutput is the log file, or stderr.
func (p *program) logOutput(stderr io.Writer) (io.Writer, error) {
	mb, err := strconv.ParseUint(p.logRotation, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("invalid value '%s' of --log-rotation-size: not a number of MB", p.logRotation)
	}
	if p.logFile == "" {
		return stderr, nil
	}
	return logsink.OpenFile(p.cfg.Opener, p.logFile, int64(mb)<<20)
}

// level is --log-level unless RUST_LOG, nydusd's override, names a level.
func (p *program) level() slog.Level {
	if env := strings.ToLower(os.Getenv("RUST_LOG")); env != "" {
		for _, l := range cli.Levels {
			if env == l {
				return cli.ParseLevel(l)
			}
		}
	}
	return cli.ParseLevel(p.logLevel)
}

// complete fills in what is neither an option nor the daemon's to find out, and
// logs what was ignored.
func (p *program) complete(env *cli.Env) error {
	b := cli.ThisBuild()
	p.cfg.Writeback = p.writeback == "on"
	p.cfg.Build = b
	p.cfg.Log.Info(fmt.Sprintf("Program Version: %s, Git Commit: %q, Build Time: %q, Profile: %q, Rustc Version: %q",
		b.PackageVersion(), b.GitCommit, b.BuildTime, b.Profile, b.Compiler))
	for _, name := range p.ignored {
		p.cfg.Log.Warn("option has no effect here", "option", name)
	}
	p.cfg.Root.RegistryAuth = os.Getenv("IMAGE_PULL_AUTH")
	var err error
	if p.cfg.Header, err = backends.HeaderOf(os.Environ()); err != nil {
		return err
	}
	if p.prefetchFiles == "" {
		return nil
	}
	files, err := readList(env.Stdin, p.cfg.Opener, p.prefetchFiles)
	p.cfg.Root.PrefetchFiles = files
	return err
}

// readList reads a list of files, from standard input if path is "-".
func readList(stdin io.Reader, o opener.Opener, path string) ([]string, error) {
	const what = "the prefetch-files arg is not a file path" // nydusd's text
	in := stdin
	if path != "-" {
		f, _, err := opener.Regular(o, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, filelist.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	files, err := filelist.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	list := make([]string, 0, len(files))
	for i := range files {
		list = append(list, files[i].Line())
	}
	return list, nil
}
