package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vrafs/internal/testenv"
	"vrafs/test/vm"
)

// rootPackages make a root file system in which a person could work. The version
// counts up when they change, so that a kept tree is made again.
var rootPackages = []string{"busybox-static", "bash", "coreutils", "findutils", "grep", "sed", "perl", "python3"}

const rootVersion = "1"

// A rootFS is an unpacked Debian.
type rootFS struct {
	dir      string
	packages int
	names    int64
	bytes    int64
}

// debianRoot unpacks the packages and all they depend on, or finds what an earlier
// run left.
func debianRoot(ctx context.Context) (*rootFS, error) {
	start := time.Now()
	dir := filepath.Join(testenv.CacheDir(), "demo-root-"+rootVersion)
	how := "kept from an earlier run"
	heading("Make a root file system of Debian packages")
	if _, err := os.Stat(dir); err != nil {
		note("downloading %s and what they need ...", strings.Join(rootPackages, ", "))
		if err := makeRoot(ctx, dir); err != nil {
			return nil, fmt.Errorf("make a root file system: %w", err)
		}
		how = "made in " + seconds(time.Since(start))
	}
	r := &rootFS{dir: dir}
	if err := r.measure(); err != nil {
		return nil, err
	}
	note("%d packages, %s names, %s, %s", r.packages, count(r.names), megabytes(r.bytes), how)
	return r, nil
}

// makeRoot works beside dir and renames at the end, so that an interrupted run
// leaves nothing half made.
func makeRoot(ctx context.Context, dir string) error {
	packages, err := vm.PackageClosure(ctx, rootPackages)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := vm.UnpackPackages(ctx, packages, filepath.Join(tmp, "root")); err != nil {
		return err
	}
	for _, d := range []string{"dev", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(tmp, "root", d), 0o755); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(tmp, "root"), dir)
}

func (r *rootFS) measure() error {
	docs, err := filepath.Glob(filepath.Join(r.dir, "usr/share/doc/*"))
	if err != nil {
		return err
	}
	r.packages = len(docs)
	return filepath.WalkDir(r.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		r.names++
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			r.bytes += info.Size()
		}
		return nil
	})
}
