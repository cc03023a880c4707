// Command vrafsd serves RAFS images to a guest over vhost-user virtio-fs, or to
// this host through FUSE. It is a drop-in for nydusd.
//
//	argv --options.go--> internal/cli --> daemon.Config --> internal/daemon
//	SIGTERM, SIGINT --> end of the context --> orderly end, exit status 0
//	log records --> internal/logsink --> stderr or --log-file
//
// Exit statuses: 0 for an orderly end, 1 for a failure, 2 for wrong usage.
//
// Trust: command line, environment and configuration are the operator's; the
// guest, the front-end and images are not trusted (see internal/daemon).
// Concurrency: main waits for the daemon and for nothing else. Source: nydusd's
// user-visible surface, section 1; kata.md, sections 1.3 and 2.1.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"vrafs/internal/cli"
)

func main() { os.Exit(run(os.Args)) }

// run is the whole program but for the exit.
func run(argv []string) int {
	// A reader of our log that goes away must not take the guest's file system
	// with it.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := newProgram(filepath.Base(argv[0]))
	cmd, err := cli.Parse(p.root, argv[1:])
	if err == nil {
		err = cmd.Run(ctx, &cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	}
	return cli.Report(err, os.Stdout, os.Stderr)
}
