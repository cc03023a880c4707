package blobcache

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"vrafs/internal/opener"
)

// A BlobUse is what one blob takes of a cache directory.
type BlobUse struct {
	ID    string
	Bytes uint64    // of all its files, on the disk
	Used  time.Time // when a process of ours last opened or closed it, or any wrote to it
	cache bool      // there are data or a map
}

// surveyBatch bounds the memory of one step through the directory.
const surveyBatch = 256

// Survey lists the blobs of a cache directory, least recently used first. A
// directory that is not there holds none. A blob is what has a data file or a chunk
// map: the other names are also those of files that a back end has.
func Survey(o opener.Opener, dir string) ([]BlobUse, error) {
	d, err := o.Open(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	found := map[string]*BlobUse{}
	for {
		batch, err := d.Readdir(surveyBatch)
		for _, fi := range batch {
			tally(found, fi)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	list := make([]BlobUse, 0, len(found))
	for _, u := range found {
		if u.cache {
			list = append(list, *u)
		}
	}
	slices.SortFunc(list, func(a, b BlobUse) int {
		if c := a.Used.Compare(b.Used); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// tally counts one file of the directory.
func tally(found map[string]*BlobUse, fi fs.FileInfo) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() {
		return
	}
	for _, suffix := range suffixes {
		id, ok := strings.CutSuffix(fi.Name(), suffix)
		if !ok {
			continue
		}
		if fileName(id) != nil {
			return
		}
		u := found[id]
		if u == nil {
			u = &BlobUse{ID: id}
			found[id] = u
		}
		u.cache = u.cache || suffix == dataSuffix || suffix == mapSuffix
		u.Bytes += uint64(st.Blocks) * 512
		if fi.ModTime().After(u.Used) {
			u.Used = fi.ModTime()
		}
		return
	}
}
