package main

import (
	"os"
	"slices"
	"strings"
	"time"

	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

func doCompare(a guestapi.CompareArgs) (r guestapi.CompareResult, err error) {
	want, err := reference(a)
	if err != nil {
		return r, err
	}
	start := time.Now()
	got, err := testtree.Scan(a.Path, testtree.ScanOptions{ReadHoles: a.ReadHoles})
	if err != nil {
		return r, err
	}
	r.Took = time.Since(start)
	want, got = without(want, a.Skip), without(got, a.Skip)
	lines := testtree.Diff(want, got, testtree.DiffOptions{SkipRoot: true, SkipDirTimes: a.SkipDirTimes})
	r.Entries, r.Differences = len(got), len(lines)
	r.Lines = lines[:min(len(lines), guestapi.MaxLines)]
	for _, e := range got {
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			r.Bytes += e.Size
		}
	}
	return r, nil
}

func reference(a guestapi.CompareArgs) ([]testtree.Entry, error) {
	if a.Manifest == "" {
		return testtree.Scan(a.Reference, testtree.ScanOptions{ReadHoles: a.ReadHoles})
	}
	return readManifest(a.Manifest)
}

func readManifest(path string) ([]testtree.Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return testtree.ReadManifest(f)
}

// without leaves out the subtrees that skip names.
func without(entries []testtree.Entry, skip []string) []testtree.Entry {
	return slices.DeleteFunc(entries, func(e testtree.Entry) bool {
		return slices.ContainsFunc(skip, func(s string) bool { return e.Path == s || strings.HasPrefix(e.Path, s+"/") })
	})
}
