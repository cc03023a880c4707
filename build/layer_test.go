package build_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// tarLayer builds a tar as a layer for Merge.
func tarLayer(t *testing.T, data []byte, blobs string, version rafs.Version) build.Layer {
	t.Helper()
	o := build.Options{Version: version, InlineMeta: true, Whiteout: build.WhiteoutNone}
	res, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(data), "layer.tar"), build.Sink{BlobDir: blobs}, o)
	steps(t, err)
	return build.Layer{Image: openImage(t, filepath.Join(blobs, res.BlobID), blobs)}
}

// stack merges layers, and builds the same one upon the other, which must give the
// same tree.
func stack(t *testing.T, version rafs.Version, layers [][]byte) []testtree.Entry {
	t.Helper()
	blobs, boot := t.TempDir(), filepath.Join(t.TempDir(), "merged")
	var list []build.Layer
	o := build.Options{Version: version}
	for _, l := range layers {
		list = append(list, tarLayer(t, l, blobs, version))
		sink := build.Sink{BlobDir: blobs, Bootstrap: filepath.Join(t.TempDir(), "stacked")}
		_, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(l), "layer.tar"), sink, o)
		steps(t, err)
		parent := openImage(t, sink.Bootstrap, blobs)
		o.Parent = &parent
	}
	_, err := build.Merge(t.Context(), list, build.Sink{Bootstrap: boot}, build.MergeOptions{})
	steps(t, err)
	merged, err := testimage.Scan(boot, blobs)
	steps(t, err)
	path := filepath.Join(t.TempDir(), "last")
	steps(t, os.WriteFile(path, o.Parent.Data, 0o600))
	stacked, err := testimage.Scan(path, blobs)
	steps(t, err)
	testimage.Compare(t, merged, stacked, testtree.DiffOptions{})
	return merged
}

func TestLayersFindBelowWhatTheirTarsLeaveOpen(t *testing.T) {
	tests := []struct {
		name         string
		lower, upper []tar.Header
		want         string
	}{
		{"directory_without_entry_stays", []tar.Header{dirEntry("a"), fileEntry("a/b", "x")}, []tar.Header{fileEntry("a/c", "x")}, "a/700 a/b=1 a/c=1"},
		{"directory_with_entry_changes", []tar.Header{{Typeflag: tar.TypeDir, Name: "a", Mode: 0o711}}, []tar.Header{dirEntry("a")}, "a/700"},
		{"directory_without_entry_over_file", []tar.Header{fileEntry("a", "x")}, []tar.Header{fileEntry("a/c", "x")}, "a/755 a/c=1"},
		{"directory_of_neither", []tar.Header{fileEntry("a/b", "x")}, []tar.Header{fileEntry("a/c", "x")}, "a/755 a/b=1 a/c=1"},
		{"opaque_directory_without_entry", []tar.Header{dirEntry("a"), fileEntry("a/b", "x")}, []tar.Header{fileEntry("a/.wh..wh..opq", ""), fileEntry("a/c", "x")}, "a/700 a/c=1"},
		{"removed_directory_comes_back", []tar.Header{dirEntry("a"), fileEntry("a/b", "x")}, []tar.Header{fileEntry(".wh.a", ""), fileEntry("a/c", "x")}, "a/755 a/c=1"},
		{"whiteouts_of_nothing", []tar.Header{dirEntry("d")}, []tar.Header{fileEntry("a/b/.wh.c", ""), fileEntry("a/.wh.d", ""), fileEntry("x/.wh..wh..opq", ""), fileEntry("d/e/.wh.f", "")}, "d/700"},
		{"link_to_file_below", []tar.Header{fileEntry("a", "x")}, []tar.Header{linkEntry("b", "a"), linkEntry("c", "./b")}, "a=1 b=1~a c=1~a"},
		{"link_to_removed_file", []tar.Header{fileEntry("a", "x")}, []tar.Header{linkEntry("b", "a"), fileEntry(".wh.a", "")}, "b=1"},
		{"link_to_replaced_file", []tar.Header{fileEntry("a", "x")}, []tar.Header{linkEntry("b", "a"), fileEntry("a", "new")}, "a=3 b=1"},
		{"link_to_file_of_the_layer", []tar.Header{fileEntry("a", "x")}, []tar.Header{fileEntry("a", "new"), linkEntry("b", "a")}, "a=3 b=3~a"},
		{"link_through_symlink", []tar.Header{fileEntry("d/a", "x"), symlinkEntry("s", "/d")}, []tar.Header{linkEntry("b", "s/a")}, "b=1 d/755 d/a=1~b s>/d"},
		{"file_through_symlink", []tar.Header{dirEntry("usr/lib"), symlinkEntry("lib", "usr/lib")}, []tar.Header{fileEntry("lib/x", "1")}, "lib>usr/lib usr/755 usr/lib/700 usr/lib/x=1"},
		{"whiteout_through_symlink", []tar.Header{fileEntry("usr/lib/x", "1"), symlinkEntry("lib", "usr/lib")}, []tar.Header{fileEntry("lib/.wh.x", "")}, "lib>usr/lib usr/755 usr/lib/755"},
		{"through_two_symlinks", []tar.Header{symlinkEntry("a", "b"), symlinkEntry("b", "c/d"), dirEntry("c/d"), symlinkEntry("c/d/e", "/f")}, []tar.Header{fileEntry("a/e/x", "1"), fileEntry("f/y", "1")},
			"a>b b>c/d c/755 c/d/700 c/d/e>/f f/755 f/x=1 f/y=1"},
		{"through_dangling_symlink", []tar.Header{symlinkEntry("a", "not/yet")}, []tar.Header{fileEntry("a/x", "1")}, "a>not/yet not/755 not/yet/755 not/yet/x=1"},
		{"through_symlink_out_of_the_root", []tar.Header{symlinkEntry("a", "../../b")}, []tar.Header{fileEntry("a/x", "1")}, "a>../../b b/755 b/x=1"},
		{"through_symlink_to_file", []tar.Header{symlinkEntry("a", "b"), fileEntry("b", "x")}, []tar.Header{fileEntry("a/x", "1")}, "a/755 a/x=1 b=1"},
		{"through_removed_symlink", []tar.Header{dirEntry("b"), symlinkEntry("a", "b")}, []tar.Header{fileEntry(".wh.a", ""), fileEntry("a/x", "1")}, "a/755 a/x=1 b/700"},
		{"directory_replaces_symlink", []tar.Header{dirEntry("b"), symlinkEntry("a", "b")}, []tar.Header{dirEntry("a"), fileEntry("a/x", "1")}, "a/700 a/x=1 b/700"},
	}
	for _, tt := range tests {
		for _, version := range []rafs.Version{rafs.V5, rafs.V6} {
			t.Run(tt.name, func(t *testing.T) {
				if got := outline(stack(t, version, [][]byte{archive(t, tt.lower...), archive(t, tt.upper...)})); got != tt.want {
					t.Errorf("v%d: got  %s\nwant %s", version, got, tt.want)
				}
			})
		}
	}
}

func TestRootWithoutEntryStays(t *testing.T) {
	got := stack(t, rafs.V6, [][]byte{archive(t, dirEntry("./"), fileEntry("a", "x")), archive(t, fileEntry("b", "x"))})
	if mode := got[0].Mode &^ rafs.ModeType; mode != 0o700 {
		t.Errorf("mode of the root %o, want 700", mode)
	}
}

func TestLinksThatNoLayerHasAreRefused(t *testing.T) {
	for name, lower := range map[string][]tar.Header{
		"nothing": {fileEntry("b", "x")}, "directory": {dirEntry("a")}, "file_in_the_path": {fileEntry("a", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			blobs := t.TempDir()
			target := "a"
			if name == "file_in_the_path" {
				target = "a/b"
			}
			layers := []build.Layer{tarLayer(t, archive(t, lower...), blobs, rafs.V6), tarLayer(t, archive(t, linkEntry("d/link", target)), blobs, rafs.V6)}
			_, err := build.Merge(t.Context(), layers, build.Sink{BootstrapWriter: io.Discard}, build.MergeOptions{})
			if !errors.Is(err, build.ErrSource) || !strings.Contains(err.Error(), `layer 2: `) || !strings.Contains(err.Error(), `"/d/link"`) {
				t.Errorf("error %v, want one of class ErrSource that names layer and path", err)
			}
		})
	}
}

func TestUnpackedLayerLeavesOpenWhatItsTarDid(t *testing.T) {
	blobs := t.TempDir()
	data := archive(t, fileEntry("a/b/file", "x"), linkEntry("a/link", "below/file"), fileEntry("c/.wh.gone", ""))
	var out bytes.Buffer
	steps(t, build.Unpack(t.Context(), tarLayer(t, data, blobs, rafs.V6).Image, &out, build.UnpackOptions{}))
	var got []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		steps(t, err)
		got = append(got, strings.TrimSuffix(h.Name+">"+h.Linkname, ">"))
	}
	if want := "a/b/file a/link>below/file c/.wh.gone"; strings.Join(got, " ") != want {
		t.Errorf("got  %q\nwant %s", got, want)
	}
}
