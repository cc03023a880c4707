package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// Sizes of the benchmark.
const (
	smallFile   = 64 << 10 // bytes; what "small files" means
	randomReads = 2000     // reads of 4 KiB
	deep        = 32       // readers at once for the parallel case
)

func doBench(a guestapi.BenchArgs) (r guestapi.BenchResult, err error) {
	var small []string
	steps := []struct {
		name string
		do   func() (ops, bytes int64, err error)
	}{
		{"walk cold", func() (n, _ int64, err error) { small, n, err = walk(a.Path); return n, 0, err }},
		{"walk warm", func() (n, _ int64, err error) { _, n, err = walk(a.Path); return n, 0, err }},
		{"small files cold", func() (int64, int64, error) { return readAll(small) }},
		{"small files warm", func() (int64, int64, error) { return readAll(small) }},
		{"sequential 1 MiB, first time", func() (int64, int64, error) { return readSequential(a.File, 1<<20) }},
		{"sequential 1 MiB", func() (int64, int64, error) { return readSequential(a.File, 1<<20) }},
		{"sequential 128 KiB", func() (int64, int64, error) { return readSequential(a.File, 128<<10) }},
		{"random 4 KiB, depth 1", func() (int64, int64, error) { return readRandom(a.File, 1) }},
		{"random 4 KiB, depth 32", func() (int64, int64, error) { return readRandom(a.File, deep) }},
	}
	if _, err := doDropCache(nothing{}); err != nil {
		return r, err
	}
	for _, s := range steps {
		start := time.Now()
		ops, n, err := s.do()
		if err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
		r.Figures = append(r.Figures, guestapi.Figure{Name: s.name, Ops: ops, Bytes: n, Took: time.Since(start)})
	}
	return r, nil
}

// walk stats every name and returns the small regular files.
func walk(dir string) (small []string, names int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		names++
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size() <= smallFile {
			small = append(small, path)
		}
		return err
	})
	return small, names, err
}

func readAll(paths []string) (ops, bytes int64, err error) {
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return ops, bytes, err
		}
		ops++
		bytes += int64(len(b))
	}
	return ops, bytes, nil
}

// openDirect opens a file past the page cache and returns its size.
func openDirect(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// alignedBuffer is n bytes that start on a page.
func alignedBuffer(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

func readRandom(path string, depth int) (ops, bytes int64, err error) {
	f, size, err := openDirect(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	blocks := size / 4096
	if blocks == 0 {
		return 0, 0, errors.New("file too small")
	}
	errs := make([]error, depth)
	var wg sync.WaitGroup
	for i := range depth {
		wg.Go(func() { errs[i] = readBlocks(f, blocks, randomReads/depth, uint64(i)) })
	}
	wg.Wait()
	n := int64(randomReads / depth * depth)
	return n, n * 4096, errors.Join(errs...)
}

func readBlocks(f *os.File, blocks int64, count int, seed uint64) error {
	buf, err := alignedBuffer(4096)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	rng := rand.New(rand.NewPCG(seed, 7))
	for range count {
		if _, err := f.ReadAt(buf, rng.Int64N(blocks)*4096); err != nil {
			return err
		}
	}
	return nil
}

func readSequential(path string, block int) (ops, bytes int64, err error) {
	f, size, err := openDirect(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	buf, err := alignedBuffer(block)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = unix.Munmap(buf) }()
	for bytes < size {
		n, err := f.ReadAt(buf, bytes)
		ops++
		bytes += int64(n)
		if err != nil && !(errors.Is(err, io.EOF) && bytes == size) {
			return ops, bytes, err
		}
	}
	return ops, bytes, nil
}
