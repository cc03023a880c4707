package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// A fileID is how programs tell files apart.
type fileID struct{ dev, ino uint64 }

// doIDs looks for files with the same numbers that are not the same file.
func doIDs(a guestapi.PathArgs) (r guestapi.IDsResult, err error) {
	first := map[fileID]string{}
	stats := map[fileID]*syscall.Stat_t{}
	err = filepath.WalkDir(a.Path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		id := fileID{st.Dev, st.Ino}
		r.Files++
		if stats[id] == nil {
			first[id], stats[id] = path, st
			return nil
		}
		same, err := alike(path, st, first[id], stats[id])
		if err == nil && !same && len(r.Lines) < guestapi.MaxLines {
			r.Lines = append(r.Lines, fmt.Sprintf("%s and %s are both %d:%d", first[id], path, st.Dev, st.Ino))
		}
		return err
	})
	return r, err
}

// alike reports whether two names can be of one file.
func alike(path string, st *syscall.Stat_t, other string, was *syscall.Stat_t) (bool, error) {
	if st.Mode != was.Mode || st.Size != was.Size || st.Mtim != was.Mtim || st.Nlink < 2 || st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return false, nil
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return true, nil
	}
	a, err := testtree.Digest(path, testtree.ScanOptions{})
	if err != nil {
		return false, err
	}
	b, err := testtree.Digest(other, testtree.ScanOptions{})
	return a == b, err
}
