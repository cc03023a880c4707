package blobcache

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"vrafs/internal/opener"
)

// verifyOne verifies the only blob of a sample.
func verifyOne(t *testing.T, s *sample, dir string) BlobReport {
	t.Helper()
	var all []BlobReport
	err := Verify(t.Context(), opener.Local(), dir, s.im, s.blobs, func(r *BlobReport) { all = append(all, *r) })
	if err != nil || len(all) != 1 {
		t.Fatalf("%d reports, %v", len(all), err)
	}
	return all[0]
}

func TestVerifyTellsWrongChunksFromMissingOnes(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 5000)})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all()[1:3])
	e.close()
	path := filepath.Join(dir, "one")
	for _, step := range []struct {
		name string
		do   func() error
		want BlobReport
	}{
		{"as stored", func() error { return nil }, BlobReport{ID: "one", Chunks: 4, Present: 2}},
		{"chunk 2 spoilt", func() error { return spoil(path+dataSuffix, s.all()[2].Off) }, BlobReport{ID: "one", Chunks: 4, Present: 2, Wrong: 1, First: 2}},
		{"no map", func() error { return os.Remove(path + mapSuffix) }, BlobReport{ID: "one", Chunks: 4, Present: 2, Wrong: 1, First: 2}},
		{"cut short", func() error { return os.Truncate(path+dataSuffix, int64(s.all()[2].Off)) }, BlobReport{ID: "one", Chunks: 4, Present: 1}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := verifyOne(t, s, dir); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
		}
	}
}

// spoil changes a byte of a file.
func spoil(path string, at uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte("x"), int64(at))
	return err
}

func TestVerifyWaitsForAnEviction(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 5000)})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	e.close()
	data, err := leaseFile(opener.Local(), filepath.Join(dir, "one"+dataSuffix))
	if err != nil || data.f == nil {
		t.Fatal("no lease", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !data.awaited() {
			runtime.Gosched()
		}
		data.close()
	}()
	if got, want := verifyOne(t, s, dir), (BlobReport{ID: "one", Chunks: 4, Present: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	<-ended
}
