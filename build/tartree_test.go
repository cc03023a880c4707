package build_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// archive packs headers; a regular file's content is its Linkname.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
			h.Size = int64(len(content))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		steps(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, content)
		steps(t, err)
	}
	steps(t, w.Close())
	return b.Bytes()
}

func fileEntry(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
}

func dirEntry(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o700}
}

func linkEntry(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

func symlinkEntry(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

// outline describes a tree in a line: names with their kinds, sizes and links.
func outline(entries []testtree.Entry) string {
	var parts []string
	for _, e := range entries[1:] {
		s := e.Path
		switch e.Mode & rafs.ModeType {
		case rafs.ModeDir:
			s += fmt.Sprintf("/%o", e.Mode&0o777)
		case rafs.ModeSymlink:
			s += ">" + e.Target
		case rafs.ModeRegular:
			s += fmt.Sprintf("=%d", e.Size)
		}
		if e.Link != "" {
			s += "~" + e.Link
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func TestTarEntriesMakeTheTreeThatUnpackingMakes(t *testing.T) {
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"implied_parents", []tar.Header{fileEntry("a/b/c", "x")}, "a/755 a/b/755 a/b/c=1"},
		{"parent_after_child", []tar.Header{fileEntry("a/b", "x"), dirEntry("a")}, "a/700 a/b=1"},
		{"dots_and_slashes", []tar.Header{fileEntry("./a/.//../b", "x"), fileEntry("/c", "")}, "b=1 c=0"},
		{"above_the_root", []tar.Header{fileEntry("../../a", "x")}, "a=1"},
		{"file_twice", []tar.Header{fileEntry("a", "first"), fileEntry("a", "2")}, "a=1"},
		{"directory_twice_keeps_children", []tar.Header{dirEntry("a"), fileEntry("a/b", "x"), dirEntry("a")}, "a/700 a/b=1"},
		{"file_over_directory", []tar.Header{fileEntry("a/b", "x"), fileEntry("a", "yy"), dirEntry("c")}, "a=2 c/700"},
		{"directory_over_file", []tar.Header{fileEntry("a", "yy"), dirEntry("a"), fileEntry("a/b", "x")}, "a/700 a/b=1"},
		{"hard_link", []tar.Header{fileEntry("a", "x"), linkEntry("b", "a"), linkEntry("c", "./b")}, "a=1 b=1~a c=1~a"},
		{"hard_link_to_symlink", []tar.Header{symlinkEntry("a", "to"), linkEntry("b", "a")}, "a>to b>to~a"},
		{"hard_link_to_itself", []tar.Header{fileEntry("a", "x"), linkEntry("a", "a")}, "a=1"},
		{"hard_link_over_file", []tar.Header{fileEntry("a", "x"), fileEntry("b", "yy"), linkEntry("b", "a")}, "a=1 b=1~a"},
		{"replaced_link_target", []tar.Header{fileEntry("a", "x"), linkEntry("b", "a"), fileEntry("a", "new")}, "a=3 b=1"},
		{"through_symlink", []tar.Header{dirEntry("usr/lib"), symlinkEntry("lib", "usr/lib"), fileEntry("lib/x", "1")}, "lib>usr/lib usr/755 usr/lib/700 usr/lib/x=1"},
		{"through_absolute_symlink", []tar.Header{symlinkEntry("d/l", "/e"), fileEntry("d/l/x", "1")}, "d/755 d/l>/e e/755 e/x=1"},
		{"symlink_out_of_the_root", []tar.Header{symlinkEntry("l", "../../e"), fileEntry("l/x", "1")}, "e/755 e/x=1 l>../../e"},
		{"no_name_at_all", []tar.Header{{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700}, fileEntry("a", "")}, "a=0"},
		{"global_header", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, fileEntry("a", "")}, "a=0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := buildStream(t, bytes.NewReader(archive(t, tt.headers...)), build.TypeTar, build.Options{})
			if s := outline(got); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

func TestEStargzEntriesAreDropped(t *testing.T) {
	data := archive(t, fileEntry("a", "x"), fileEntry(".prefetch.landmark", "l"), fileEntry("stargz.index.json", "{}"), fileEntry("d/stargz.index.json", "{}"))
	got := buildStream(t, bytes.NewReader(data), build.TypeEStargz, build.Options{})
	if s := outline(got); s != "a=1 d/755 d/stargz.index.json=2" {
		t.Error(s)
	}
}

func TestHostileTarsNameTheirPlace(t *testing.T) {
	good := archive(t, fileEntry("first", strings.Repeat("x", 600)), fileEntry("second", "y"))
	const second = 512 + 1024
	changed := func(at int, b ...byte) []byte {
		p := bytes.Clone(good)
		copy(p[at:], b)
		return p
	}
	loop := archive(t, symlinkEntry("a", "b"), symlinkEntry("b", "a"), fileEntry("a/x", "1"))
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"checksum", changed(second+150, '7'), "at 1536"},
		{"cut_in_data", good[:700], "at 0"},
		{"cut_in_header", good[:second+100], "at 1636"},
		{"text", []byte(strings.Repeat("not a tar\n", 100)), "at 0"},
		{"link_to_nothing", archive(t, linkEntry("a", "b")), "at 0"},
		{"link_to_directory", archive(t, dirEntry("d"), linkEntry("a", "d")), "at 512"},
		{"symlink_loop", loop, "at 1024"},
		{"below_a_file", archive(t, fileEntry("a", ""), fileEntry("a/b", "")), "at 512"},
		{"unknown_type", archive(t, tar.Header{Typeflag: 'Z', Name: "a"}), "at 0"},
		{"long_name", archive(t, fileEntry(strings.Repeat("n", 256), "")), "at 0"},
		{"root_is_a_file", archive(t, fileEntry(".", "x")), "at 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(tt.data), "evil.tar"),
				build.Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}, build.Options{})
			if !errors.Is(err, build.ErrSource) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "evil.tar") {
				t.Errorf("error %v, want one of class ErrSource that names the file and %q", err, tt.want)
			}
		})
	}
}
