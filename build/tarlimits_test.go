package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// buildLimited builds a tar under limits.
func buildLimited(r io.Reader, l tarLimits) error {
	b, err := newBuilder(Stream(TypeTar, r, "bomb.tar"), Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}, Options{Workers: 1})
	if err != nil {
		return err
	}
	b.limits = l
	return b.run(context.Background())
}

// compressions are those of bombs: each makes a stream of what write writes.
var compressions = map[string]func(w io.Writer) (io.WriteCloser, error){
	"plain": func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil },
	"gzip":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
	"zstd":  func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// endless streams what write writes again and again until the reader is closed.
func endless(t *testing.T, compression string, write func(w *tar.Writer, round int) error) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	ended := make(chan struct{})
	t.Cleanup(func() { r.Close(); <-ended })
	go func() {
		defer close(ended)
		z, err := compressions[compression](w)
		if err != nil {
			t.Error(err)
			return
		}
		out := tar.NewWriter(z)
		for round := 0; err == nil; round++ {
			err = write(out, round)
		}
		_ = z.Close()
	}()
	return r
}

func TestStreamsThatNeverEndAreCutOff(t *testing.T) {
	small := tarLimits{size: 8 << 20, tail: 1 << 20, names: 1000, metadata: 1 << 20, holes: 100}
	zeros := make([]byte, 64<<10)
	for name, tt := range map[string]struct {
		write func(w *tar.Writer, round int) error
		want  string
	}{
		"files": {func(w *tar.Writer, round int) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(round)})
		}, "more than 1000 entries"},
		"one_file_again": {func(w *tar.Writer, _ int) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "same"})
		}, "more than 1000 entries"},
		"deep_paths": {func(w *tar.Writer, round int) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(round, "/", strings.Repeat("d/", 2000), "f"), Format: tar.FormatPAX})
		}, "more than 1000 entries"},
		"large_files": {func(w *tar.Writer, round int) error {
			err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(round), Size: int64(len(zeros))})
			if err == nil {
				_, err = w.Write(zeros)
			}
			return err
		}, "more than 8388608 bytes of tar"},
		"one_huge_file": {func(w *tar.Writer, round int) (err error) {
			if round == 0 {
				err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 1 << 40})
			}
			if err == nil {
				_, err = w.Write(zeros)
			}
			return err
		}, "more than 8388608 bytes of tar"},
		"attributes": {func(w *tar.Writer, round int) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(round),
				PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 60<<10)}})
		}, "bytes of names, link targets and extended attributes"},
		"global_headers": {func(w *tar.Writer, round int) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": strings.Repeat("x", 60<<10)}})
		}, "more than 8388608 bytes of tar"},
	} {
		for compression := range compressions {
			t.Run(name+"/"+compression, func(t *testing.T) {
				err := buildLimited(endless(t, compression, tt.write), small)
				if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "bomb.tar") {
					t.Errorf("error %v, want one of class ErrSource with %q", err, tt.want)
				}
			})
		}
	}
}

// endlessZeros never end.
type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestZerosThatNeverEndAreCutOff(t *testing.T) {
	whole := fuzzTar("file")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(whole)
	_ = w.Close()
	for name, head := range map[string][]byte{"tar": whole, "gzip": z.Bytes()} {
		err := buildLimited(io.MultiReader(bytes.NewReader(head), endlessZeros{}), defaultTarLimits)
		if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "more than 1073741824 bytes") {
			t.Errorf("%s: error %v", name, err)
		}
		if err := buildLimited(io.MultiReader(bytes.NewReader(head), io.LimitReader(endlessZeros{}, 1<<20+7)), defaultTarLimits); err != nil {
			t.Errorf("%s: with a mebibyte of zeros: %v", name, err)
		}
	}
}

// TestCutStreamsAreRefused wherever they were cut: a small layer that was cut before its
// decoder gave anything must not be taken for an empty one.
func TestCutStreamsAreRefused(t *testing.T) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gzip", "zstd"} {
		var b bytes.Buffer
		z, err := compressions[name](&b)
		if err == nil {
			_, err = z.Write(plain.Bytes())
		}
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		if err := buildLimited(bytes.NewReader(b.Bytes()), defaultTarLimits); err != nil {
			t.Fatal(err)
		}
		for n := 1; n < b.Len(); n++ {
			if err := buildLimited(bytes.NewReader(b.Bytes()[:n]), defaultTarLimits); err == nil {
				t.Errorf("%s: %d bytes of %d make an image", name, n, b.Len())
			}
		}
	}
	for _, zeros := range []int{0, 100, 512} {
		lost := io.MultiReader(bytes.NewReader(make([]byte, zeros)), iotest.ErrReader(io.ErrUnexpectedEOF))
		if err := buildLimited(lost, defaultTarLimits); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a connection that broke after %d zeros: %v", zeros, err)
		}
	}
}
