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
	want, err := readManifest(a.Manifest)
	if err != nil {
		return r, err
	}
	start := time.Now()
	got, err := testtree.Scan(a.Path, testtree.ScanOptions{ReadHoles: a.ReadHoles, Skip: a.Skip})
	if err != nil {
		return r, err
	}
	r.Took = time.Since(start)
	want = without(want, a.Skip)
	lines := testtree.Diff(want, got, testtree.DiffOptions{SkipRoot: true})
	r.Entries, r.Differences = len(got), len(lines)
	r.Lines = lines[:min(len(lines), guestapi.MaxLines)]
	for _, e := range got {
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			r.Bytes += e.Size
		}
	}
	return r, nil
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
