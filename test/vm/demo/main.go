// Command demo shows a virtual machine whose files come out of an image as it
// reads them:
//
//	Debian packages --> root file system --vrafs create--> image
//	                                                         |
//	vrafsd virtiofs (empty cache) <---------- reads ---------+
//	   | vhost-user
//	guest: mount virtiofs, overlayfs on top, busybox and python3 out of it
//
// It takes no arguments, uses the programs in bin/ and needs no root: packages are
// downloaded and unpacked, not installed. What it fetches it keeps in the cache
// directory, so that the second run takes seconds.
//
// Trust: packages come through apt, which checks their signatures. Concurrency:
// one thing after another. Source: package test/vm.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"vrafs/internal/testenv"

	"golang.org/x/sys/unix"
)

// deadline is for a first run on a slow connection.
const deadline = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, deadline)
	err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := checkMachine(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "vrafs-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()

	fmt.Println("A virtual machine whose files come out of an image as it reads them")
	root, err := debianRoot(ctx)
	if err != nil {
		return err
	}
	im, err := convert(ctx, root, work)
	if err != nil {
		return err
	}
	return serve(ctx, im)
}

// The programs of this project that the demo runs.
var (
	builder = filepath.Join("bin", "vrafs")
	daemon  = filepath.Join("bin", "vrafsd")
)

// needs are the programs without which nothing works, and what brings them.
var needs = []struct{ program, remedy string }{
	{"qemu-system-x86_64", "apt-get install qemu-system-x86"},
	{"apt-get", "the demo makes its root file system from Debian packages; run it on Debian or Ubuntu"},
	{"dpkg-deb", "apt-get install dpkg"},
	{"xz", "apt-get install xz-utils"},
}

func checkMachine() error {
	var errs []error
	for _, p := range []string{builder, daemon} {
		if _, err := os.Stat(p); err != nil {
			errs = append(errs, fmt.Errorf("no %s: run make build", p))
		}
	}
	for _, n := range needs {
		if testenv.Program(n.program) == "" {
			errs = append(errs, fmt.Errorf("no %s: %s", n.program, n.remedy))
		}
	}
	return errors.Join(errs...)
}
