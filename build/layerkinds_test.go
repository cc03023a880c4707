package build_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// A layerKind is a tar that some tool writes or that somebody may send.
type layerKind struct {
	name    string
	data    func(t *testing.T) []byte
	refused bool // by us
	// What others make of it, where it is not what we do: "refused", or the outline.
	umoci, gnuTar string
}

// entries makes a kind of headers as archive does.
func entries(name string, headers ...tar.Header) layerKind {
	return layerKind{name: name, data: func(t *testing.T) []byte { return archive(t, headers...) }}
}

// changed is the kind with its bytes changed.
func (k layerKind) changed(name string, change func(data []byte) []byte) layerKind {
	data := k.data
	k.name, k.data = name, func(t *testing.T) []byte { return change(data(t)) }
	return k
}

// other says where other tools differ.
func (k layerKind) other(umoci, gnuTar string) layerKind {
	k.umoci, k.gnuTar = umoci, gnuTar
	return k
}

func (k layerKind) refuse(umoci, gnuTar string) layerKind {
	k.refused = true
	return k.other(umoci, gnuTar)
}

func typed(typ byte, name string) tar.Header {
	return tar.Header{Typeflag: typ, Name: name, Mode: 0o644, ModTime: time.Unix(1, 0)}
}

// retyped changes the type of the first entry, which Go's writer would not write.
func retyped(typ byte) func([]byte) []byte {
	return func(data []byte) []byte {
		data = bytes.Clone(data)
		data[156] = typ
		copy(data[148:156], "        ")
		sum := 0
		for _, c := range data[:512] {
			sum += int(c)
		}
		copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return data
	}
}

var long = strings.Repeat("long/", 50)

func layerKinds() []layerKind {
	ab := entries("", fileEntry("a", "x"), fileEntry("b", "y"))
	second := entries("", fileEntry("c", "z"))
	return []layerKind{
		entries("nothing"),
		ab.changed("no_bytes", func([]byte) []byte { return nil }).other("", "refused"),
		ab.changed("no_end_mark", func(d []byte) []byte { return d[:2*1024] }),
		ab.changed("half_an_end_mark", func(d []byte) []byte { return d[:2*1024+512] }),
		ab.changed("much_padding", func(d []byte) []byte { return append(d, make([]byte, 1<<20)...) }),
		ab.changed("garbage_after_the_end", func(d []byte) []byte { return append(d, "garbage"...) }),
		{name: "two_archives", data: func(t *testing.T) []byte { return append(ab.data(t), second.data(t)...) }},
		ab.changed("cut_off", func(d []byte) []byte { return d[:1024+512] }).refuse("refused", "refused"),
		ab.changed("bad_checksum", func(d []byte) []byte { d[1024+150] ^= 1; return d }).refuse("refused", "refused"),
		entries("absolute_path", fileEntry("/a/b", "x")),
		entries("path_out_of_the_root", fileEntry("../../a", "x"), fileEntry("d/../../../e", "y")).other("", "refused"),
		entries("file_twice", fileEntry("a", "first"), fileEntry("a", "2")),
		entries("file_over_directory", fileEntry("a/b", "x"), fileEntry("a", "yy")).other("", "refused"),
		entries("directory_over_file", fileEntry("a", "x"), dirEntry("a"), fileEntry("a/b", "x")),
		entries("symlink_over_directory", dirEntry("a"), symlinkEntry("a", "b")),
		entries("directory_over_symlink", dirEntry("b"), symlinkEntry("a", "b"), dirEntry("a"), fileEntry("a/x", "1")),
		entries("hard_link_to_absolute_path", fileEntry("a", "x"), linkEntry("b", "/a")),
		entries("hard_link_out_of_the_root", fileEntry("a", "x"), linkEntry("b", "../../a")),
		entries("hard_link_to_symlink", symlinkEntry("a", "nowhere"), linkEntry("b", "a")),
		entries("hard_link_to_nothing", linkEntry("b", "a")).refuse("refused", "refused"),
		entries("hard_link_to_directory", dirEntry("a"), linkEntry("b", "a")).refuse("refused", "refused"),
		entries("through_symlink", dirEntry("d"), symlinkEntry("s", "d"), fileEntry("s/x", "1")),
		entries("through_symlink_out_of_the_root", dirEntry("d"), symlinkEntry("s", "/../../d"), fileEntry("s/x", "1")).other("", "refused"),
		entries("through_symlink_loop", symlinkEntry("a", "b"), symlinkEntry("b", "a"), fileEntry("a/x", "1")).refuse("refused", "refused"),
		entries("long_names", fileEntry(long+"file", "x"), symlinkEntry("s", long+"file"), linkEntry("l", long+"file")),
		ab.changed("type_contiguous", retyped('7')).other("refused", ""),
		ab.changed("type_old", retyped(0)),
		ab.changed("type_unknown", retyped('Z')).refuse("refused", "a=1 b=1"),
		entries("directory_named_like_a_file", tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o700}, fileEntry("d/x", "1")),
		entries("attribute_of_no_name_space", tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.com.apple.quarantine": "q"}}),
		entries("global_header", tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "commit"}}, fileEntry("a", "x")).other("refused", ""),
		entries("fifo_and_device", typed(tar.TypeFifo, "f"), tar.Header{Typeflag: tar.TypeChar, Name: "c", Mode: 0o600, Devmajor: 1, Devminor: 3}),
	}
}

func TestLayersOfEveryKindComeOutAsOtherToolsUnpackThem(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.ImageTools, testenv.GNUTar)
	testenv.Long(t)
	for _, k := range layerKinds() {
		t.Run(k.name, func(t *testing.T) {
			data := k.data(t)
			ours, err := outcome(t, data)
			if (err != nil) != k.refused || err != nil && !errors.Is(err, build.ErrSource) {
				t.Fatalf("%q, %v", ours, err)
			}
			for _, other := range []struct{ name, got, want string }{
				{"umoci", outlineOf(t, data, umociUnpack), k.umoci}, {"GNU tar", outlineOf(t, data, gnuTarUnpack), k.gnuTar},
			} {
				want := other.want
				if want == "" {
					want = ours
				}
				if other.got != want {
					t.Errorf("%s: %s\nwant   %s\nwe     %s", other.name, other.got, want, ours)
				}
			}
		})
	}
}

// outcome is the outline of what we build.
func outcome(t *testing.T, data []byte) (string, error) {
	t.Helper()
	_, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(data), "layer.tar"),
		build.Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}, build.Options{})
	if err != nil {
		return "refused", err
	}
	return outline(buildStream(t, bytes.NewReader(data), build.TypeTar, build.Options{})), nil
}

// outlineOf is the outline of what another tool makes of a tar, or "refused".
func outlineOf(t *testing.T, data []byte, unpack func(file, dir string) error) string {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "layer.tar"), filepath.Join(t.TempDir(), "tree")
	steps(t, os.WriteFile(file, data, 0o600))
	if err := unpack(file, dir); err != nil {
		return "refused"
	}
	got, err := testtree.Scan(dir, testtree.ScanOptions{})
	steps(t, err)
	return outline(got)
}

func umociUnpack(file, dir string) error {
	layout := filepath.Join(filepath.Dir(file), "layout")
	for _, args := range [][]string{
		{"init", "--layout", layout}, {"new", "--image", layout + ":a"},
		{"raw", "add-layer", "--image", layout + ":a", file}, {"raw", "unpack", "--image", layout + ":a", dir},
	} {
		if err := exec.Command("umoci", args...).Run(); err != nil {
			return err
		}
	}
	return nil
}

func gnuTarUnpack(file, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return exec.Command("tar", "--numeric-owner", "-pxf", file, "-C", dir).Run()
}

// TestCompressedStreamsOfEveryShapeAreRead: what zstd and gzip decoders take, and what
// they make clear is none.
func TestCompressedStreamsOfEveryShapeAreRead(t *testing.T) {
	data := archive(t, fileEntry("a", strings.Repeat("x", 3000)), fileEntry("b", "y"))
	frame := func(p []byte) []byte { return zstdCompressed(t, p) }
	skippable := append([]byte{0x5e, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "skip!"...)
	for _, tt := range []struct {
		name string
		data []byte
		want string // of the error
	}{
		{"gzip_members", gzipped(t, data[:700], nil, data[700:], nil), ""},
		{"gzip_zeros", slices.Concat(gzipped(t, data), make([]byte, 5000)), ""},
		{"gzip_garbage", slices.Concat(gzipped(t, data), []byte("garbage")), "no gzip stream after its end"},
		{"gzip_garbage_after_zeros", slices.Concat(gzipped(t, data), make([]byte, 1<<20), []byte{1}), "no gzip stream after its end"},
		{"gzip_cut", gzipped(t, data)[:60], "unexpected EOF"},
		{"gzip_damaged", damaged(gzipped(t, data)), "gzip: invalid checksum"},
		{"zstd_frames", slices.Concat(frame(data[:700]), frame(data[700:])), ""},
		{"zstd_skippable_first", slices.Concat(skippable, frame(data)), ""},
		{"zstd_skippable_between_and_last", slices.Concat(frame(data[:700]), skippable, frame(data[700:]), skippable), ""},
		{"zstd_garbage", slices.Concat(frame(data), []byte("garbage")), "magic number mismatch"},
		{"zstd_huge_window", hugeWindow(t, data), "window size exceeded"},
		{"xz", []byte("\xfd7zXZ\x00\x00\x04rest"), "compressed with xz"},
		{"bzip2", []byte("BZh91AY&SY"), "compressed with bzip2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := outcome(t, tt.data)
			if tt.want == "" && (err != nil || got != "a=3000 b=1") {
				t.Errorf("%s, %v", got, err)
			}
			if tt.want != "" && (!errors.Is(err, build.ErrSource) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one of class ErrSource with %q", err, tt.want)
			}
		})
	}
}

// damaged has another checksum.
func damaged(p []byte) []byte {
	p[len(p)-6] ^= 1
	return p
}

// hugeWindow is a frame that makes its decoder keep 512 MiB.
func hugeWindow(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false))
	steps(t, err)
	var b bytes.Buffer
	w.Reset(&b)
	_, err = w.Write(data)
	steps(t, err, w.Flush())
	_, err = w.Write(data)
	steps(t, err, w.Close())
	return b.Bytes()
}
