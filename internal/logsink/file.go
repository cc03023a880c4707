package logsink

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vrafs/internal/opener"
)

// kept is how many rotated files stay.
const kept = 10

// A File is a log file that is set aside when it is full. It is used by one
// goroutine.
type File struct {
	path  string
	limit int64
	o     opener.Opener
	now   func() time.Time

	f    *os.File
	size int64
}

// OpenFile opens the log file at path for appending, with nydusd's rules: a name
// without an extension gets ".log", a missing directory is made. Once it has
// limit bytes it is rotated; 0 means never.
func OpenFile(o opener.Opener, path string, limit int64) (*File, error) {
	if filepath.Ext(path) == "" {
		path += ".log"
	}
	if err := o.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	f := &File{path: path, limit: limit, o: o, now: time.Now}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}

func (f *File) open() error {
	file, err := f.o.Open(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fi, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return err
	}
	f.f, f.size = file, fi.Size()
	return nil
}

// Write appends one record, after a rotation if the file is full. A rotation that
// fails leaves the file growing.
func (f *File) Write(p []byte) (int, error) {
	if f.limit > 0 && f.size >= f.limit {
		f.rotate()
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	return n, err
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// rotate sets the file aside under a name with the time, compresses it and
// deletes the oldest ones.
func (f *File) rotate() {
	ext := filepath.Ext(f.path)
	stem := strings.TrimSuffix(f.path, ext) + "_r"
	aside := stem + f.now().Format("2006-01-02_15-04-05.000000") + ext
	if err := f.o.Rename(f.path, aside); err != nil {
		f.size = 0 // try again after as many bytes
		return
	}
	old := f.f
	if err := f.open(); err != nil {
		f.f, f.size = old, 0
		return
	}
	_ = old.Close()
	f.compress(aside)
	f.prune(stem, ext)
}

// compress replaces the file at path by its gzip form, if there is room for it.
func (f *File) compress(path string) {
	in, _, err := opener.Regular(f.o, path)
	if err != nil {
		return
	}
	defer in.Close()
	out, err := f.o.Open(path+".gz", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if e := z.Close(); err == nil {
		err = e
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = f.o.Remove(path + ".gz")
		return
	}
	_ = f.o.Remove(path)
}

// prune deletes all but the newest rotated files. Their names sort by time.
func (f *File) prune(stem, ext string) {
	dir, err := f.o.Open(filepath.Dir(f.path), os.O_RDONLY, 0)
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	prefix := filepath.Base(stem)
	names = slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, prefix) || !strings.HasSuffix(strings.TrimSuffix(n, ".gz"), ext)
	})
	slices.Sort(names)
	for _, n := range names[:max(0, len(names)-kept)] {
		_ = f.o.Remove(filepath.Join(filepath.Dir(f.path), n))
	}
}
