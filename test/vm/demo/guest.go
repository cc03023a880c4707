package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"vrafs/test/vm"
	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

const (
	kernelSeries = "6.12"
	tag          = "image"
	lower        = "/mnt/image"
	merged       = "/mnt/root"
)

// programs are what the guest runs out of the image, in order.
var programs = []string{
	"busybox uname -sr",
	"python3 -c 'import sys; print(\"Python\", sys.version.split()[0])'",
	"python3 -c 'import json; print(json.dumps({\"from\": \"the image\"}))'",
	"busybox find /usr | busybox wc -l",
	"echo 'written in the guest' >/etc/motd; cat /etc/motd",
}

// serve starts the daemon and a guest, runs the programs and reports.
func serve(ctx context.Context, im *image) (err error) {
	kernel, err := vm.FetchKernel(ctx, kernelSeries)
	if err != nil {
		return err
	}
	guest := filepath.Join(filepath.Dir(im.bootstrap), "guest")
	if err := vm.BuildGuest(ctx, guest); err != nil {
		return err
	}
	start := time.Now()
	d, err := vm.StartDaemon(ctx, vm.DaemonOptions{Program: daemon, Bootstrap: im.bootstrap, BlobDir: im.blobDir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	heading("Serve it, with an empty cache")
	command(daemon, []string{"virtiofs", "--sock", d.Socket, "--bootstrap", im.bootstrap, "--config", "/config.json"})
	note("ready after %s", seconds(time.Since(start)))

	heading("Boot a guest and run what is in the image")
	boot := time.Now()
	m, err := vm.Start(ctx, vm.Options{
		Kernel: kernel, Guest: guest, MemMB: 512,
		Filesystems: []vm.Filesystem{{Socket: d.Socket, Tag: tag, Queues: 2, Gone: d.Gone()}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	note("Linux %s, up after %s on an emulated CPU", m.Release, seconds(time.Since(boot)))
	if err := mountRoot(m); err != nil {
		return err
	}
	first, err := runPrograms(m, start)
	if err != nil {
		return err
	}
	return report(ctx, d, im, first)
}

// mountRoot mounts the image and a writable layer over it, and what programs
// expect inside.
func mountRoot(m *vm.Machine) error {
	calls := []struct {
		cmd  guestapi.Command
		args any
	}{
		{guestapi.Mount, guestapi.MountArgs{Source: tag, Path: lower, Type: "virtiofs", Flags: unix.MS_RDONLY}},
		{guestapi.Mkdir, guestapi.PathArgs{Path: "/tmp/upper"}},
		{guestapi.Mkdir, guestapi.PathArgs{Path: "/tmp/work"}},
		{guestapi.Mount, guestapi.MountArgs{Source: "root", Path: merged, Type: "overlay", Data: "lowerdir=" + lower + ",upperdir=/tmp/upper,workdir=/tmp/work"}},
		{guestapi.Mount, guestapi.MountArgs{Source: "proc", Path: merged + "/proc", Type: "proc"}},
		{guestapi.Mount, guestapi.MountArgs{Source: "/dev", Path: merged + "/dev", Flags: unix.MS_BIND}},
	}
	for _, c := range calls {
		if err := m.Call(c.cmd, c.args, nil); err != nil {
			return err
		}
	}
	fmt.Printf("  guest# mount -t virtiofs %s %s; mount -t overlay ... %s; chroot %s\n", tag, lower, merged, merged)
	return nil
}

// runPrograms returns when the first one had ended, counted from start.
func runPrograms(m *vm.Machine, start time.Time) (first time.Duration, err error) {
	for i, p := range programs {
		var r guestapi.RunResult
		err := m.Call(guestapi.Run, guestapi.RunArgs{
			Root: merged, Argv: []string{"/bin/bash", "-c", p}, Env: []string{"PATH=/usr/bin:/bin", "HOME=/root"},
		}, &r)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			first = time.Since(start)
		}
		fmt.Printf("  root# %-66s %7s\n", p, seconds(r.Took))
		for line := range strings.Lines(r.Output) {
			fmt.Printf("  %s\n", strings.TrimRight(line, "\n"))
		}
		if r.Code != 0 {
			return 0, fmt.Errorf("%s: exit code %d", p, r.Code)
		}
	}
	return first, nil
}

// report asks the daemon for its counters.
func report(ctx context.Context, d *vm.Daemon, im *image, first time.Duration) error {
	var fs struct {
		FopHits  []int64 `json:"fop_hits"`
		DataRead int64   `json:"data_read"`
	}
	var backend struct {
		ReadCount int64 `json:"read_count"`
		Amount    int64 `json:"read_amount_total"`
	}
	var cache struct {
		Total     int64 `json:"total"`
		WholeHits int64 `json:"whole_hits"`
	}
	for path, to := range map[string]any{"": &fs, "/backend": &backend, "/blobcache": &cache} {
		if err := d.API(ctx, "GET", "/api/v1/metrics"+path, nil, to); err != nil {
			return err
		}
	}
	var requests int64
	for _, n := range fs.FopHits {
		requests += n
	}
	fmt.Println("\nWhat it took")
	for _, row := range [][2]string{
		{"time to first command", seconds(first) + " from starting the daemon, the guest's boot included"},
		{"image", fmt.Sprintf("%s of files, %s compressed", megabytes(im.tree), megabytes(im.data))},
		{"fetched", fmt.Sprintf("%s in %s reads: %s of the image", megabytes(backend.Amount), count(backend.ReadCount), percent(backend.Amount, im.data))},
		{"requests", fmt.Sprintf("%s from the guest, %s read by it", count(requests), megabytes(fs.DataRead))},
		{"cache hits", fmt.Sprintf("%s of %s reads: %s", count(cache.WholeHits), count(cache.Total), percent(cache.WholeHits, cache.Total))},
	} {
		fmt.Printf("  %-22s %s\n", row[0], row[1])
	}
	return nil
}
