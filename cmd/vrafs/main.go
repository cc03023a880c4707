// Command vrafs makes, checks, converts and shows RAFS images. Called under the
// name nydus-image it is a drop-in for that program.
//
//	argv --internal/cli--> subcommand --> build     (create, merge, unpack, ...)
//	                                  --> bootload  (any image) --> rafs, blobcache (ls, cat, ...)
//
// One file per subcommand; what they share is in image.go (images and back ends),
// result.go (JSON results) and prefetch.go (patterns on standard input).
//
// Trust: images, tars and configuration files are untrusted; the command line is
// the user's. Concurrency: one command per process, which starts and waits for
// what it needs. Source: the user-visible surface of nydus-image 2.4.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"vrafs/backend"
	"vrafs/internal/cli"
)

func main() { os.Exit(run(os.Args)) }

// stopGrace is how long an interrupted command may take to remove what it wrote.
// A command that waits for the other end of a FIFO can't notice.
const stopGrace = 2 * time.Second

// run is the whole program but for the exit. Interruption cancels the command.
func run(argv []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done := make(chan int, 1)
	go func() { done <- runCommand(ctx, argv) }()
	select {
	case status := <-done:
		return status
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	select {
	case status := <-done:
		return status
	case <-time.After(stopGrace):
		return cli.Report(errInterrupted, os.Stdout, os.Stderr)
	}
}

var errInterrupted = errors.New("interrupted")

// runCommand parses argv and runs the command. Images are mapped files: somebody
// who truncates one while we read it ends the command, not with a crash.
func runCommand(ctx context.Context, argv []string) (status int) {
	debug.SetPanicOnFault(true)
	defer func() {
		var err error
		switch r := recover().(type) {
		case nil:
			return
		case interface{ Addr() uintptr }:
			err = errors.New("the image was truncated while it was read")
		default:
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
		status = cli.Report(err, os.Stdout, os.Stderr)
	}()
	err := execute(ctx, argv)
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	return cli.Report(err, os.Stdout, os.Stderr)
}

func execute(ctx context.Context, argv []string) error {
	p := newProgram(filepath.Base(argv[0]))
	cmd, err := cli.Parse(p.root, argv[1:])
	if err != nil {
		return err
	}
	var log = os.Stderr
	if p.logFile != "" {
		if log, err = cli.LogFile(p.logFile); err != nil {
			return err
		}
		defer log.Close()
	}
	env := &cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Log: slog.New(cli.NewLogHandler(log, cli.LogOptions{
		Level: cli.ParseLevel(p.logLevel),
		Color: cli.Terminal(log),
	}))}
	return advise(cmd.Run(ctx, env))
}

// advise tells what to do about errors that any command may meet.
func advise(err error) error {
	switch {
	case errors.Is(err, backend.ErrNotFound):
		return cli.Hint(err, "check that the blobs are where the command line or the configuration says")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "check the paths on the command line")
	}
	return err
}

// A program is the command tree with the global options.
type program struct {
	root     *cli.Command
	logFile  string
	logLevel string
}

// nydusImage is the name under which only nydus-image's own commands exist.
const nydusImage = "nydus-image"

func newProgram(name string) *program {
	p := &program{logLevel: "info"}
	p.root = &cli.Command{
		Name:    name,
		About:   "Build, check, convert and show RAFS images (Nydus)",
		Version: cli.ThisBuild().Block(),
		Options: []*cli.Option{
			{Long: "log-file", Short: 'L', Value: "log-file", Help: "Log file; \".log\" is added to a name without extension (default: standard error)",
				Global: true, Set: cli.Str(&p.logFile)},
			{Long: "log-level", Short: 'l', Value: "log-level", Help: "Log level", Global: true, Choices: cli.Levels, Default: p.logLevel,
				Set: cli.Str(&p.logLevel)},
		},
		Commands: []*cli.Command{
			newCreate(), newMerge(), newCheck(name != nydusImage), newInspect(name != nydusImage), newExport(), newUnpack(),
			newStat(), newCompact(), newOptimize(), newChunkdict(),
		},
	}
	if name != nydusImage {
		p.root.Commands = append(p.root.Commands, newLs(), newTree(), newCat(), newCache(), newCtl(), newKata(), newDoctor(), newMount(), newUmount(), newDu(), newVersion())
		p.root.Commands = append(p.root.Commands, newConvert(), newCopy(), newPush(), newPull()) // other people's images
	}
	return p
}

// newVersion shows our own version, where --version shows Nydus's.
func newVersion() *cli.Command {
	return &cli.Command{Name: "version", About: "Print the version of vrafs", Run: func(_ context.Context, env *cli.Env) error {
		b := cli.ThisBuild()
		_, err := fmt.Fprintf(env.Stdout, "vrafs %s (commit %s, built %s, %s), Nydus interface %s\n",
			b.Version, b.GitCommit, b.BuildTime, b.Compiler, cli.Interface)
		return err
	}}
}
