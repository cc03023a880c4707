package build

import (
	"archive/tar"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// genEntry draws an entry that a tar can carry.
func genEntry(t *rapid.T) tarEntry {
	name := func(label string, n int) string {
		return strings.Trim(strings.ReplaceAll(string(rapid.SliceOfN(rapid.ByteRange(1, 255), 1, n).Draw(t, label)), "//", "_"), "/") + "x"
	}
	e := tarEntry{
		typ:  rapid.SampledFrom([]byte{tarReg, tarDir, tarSymlink, tarLink, tarChar, tarBlock, tarFifo}).Draw(t, "type"),
		name: name("name", 300), mode: rapid.Uint32Range(0, 0o7777).Draw(t, "mode"),
		uid: rapid.Uint32().Draw(t, "uid"), gid: rapid.Uint32().Draw(t, "gid"),
		mtime: rapid.Int64Range(-1<<40, 1<<40).Draw(t, "mtime"), nsec: rapid.Uint32Range(0, 999_999_999).Draw(t, "nsec"),
	}
	switch e.typ {
	case tarReg:
		e.size = rapid.Uint64Range(0, 2000).Draw(t, "size")
	case tarSymlink, tarLink:
		e.link = name("link", 300)
	case tarChar, tarBlock:
		e.major, e.minor = rapid.Uint32Range(0, 4095).Draw(t, "major"), rapid.Uint32Range(0, 1<<20-1).Draw(t, "minor")
	}
	for range rapid.IntRange(0, 3).Draw(t, "xattrs") {
		n := "user." + strings.ReplaceAll(name("xattr", 40), "=", "_")
		if !slices.ContainsFunc(e.xattrs, func(x xattr) bool { return x.name == n }) {
			e.xattrs = append(e.xattrs, xattr{n, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")})
		}
	}
	return e
}

// visible is what a reader sees of an entry.
func visible(e *tarEntry) tarEntry {
	out := *e
	out.off, out.dataOff, out.stored = 0, 0, 0
	out.xattrs = slices.Clone(e.xattrs)
	slices.SortFunc(out.xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return out
}

func TestTarWriterAndReaderAgreeOnEveryEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(genEntry), 0, 5).Draw(t, "entries")
		var b bytes.Buffer
		w := newTarWriter(&b)
		for i := range entries {
			if err := w.header(&entries[i]); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, int(entries[i].size))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		r := newTarReader(&b)
		for i := range entries {
			got, err := r.next()
			if err != nil {
				t.Fatalf("entry %d: %v", i, err)
			}
			data, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(data, bytes.Repeat([]byte{byte(i)}, int(entries[i].size))) {
				t.Fatalf("entry %d: %d bytes of data, %v", i, len(data), err)
			}
			if d := cmp.Diff(visible(&entries[i]), visible(got), cmp.AllowUnexported(tarEntry{}, xattr{}), cmp.Transformer("string", func(b []byte) string { return string(b) })); d != "" {
				t.Fatalf("entry %d (-written +read):\n%s", i, d)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Fatalf("after the end: %v", err)
		}
	})
}

func TestPlainEntriesHaveTheBytesOfArchiveTar(t *testing.T) {
	entries := []tarEntry{
		{typ: tarDir, name: "dir/", mode: 0o755},
		{typ: tarReg, name: "dir/file", mode: 0o4644, uid: 1000, gid: 100, size: 5, mtime: 1_700_000_000},
		{typ: tarSymlink, name: "dir/link", link: "file", mode: 0o777},
		{typ: tarLink, name: "hard", link: "dir/file", mode: 0o644},
		{typ: tarChar, name: "null", mode: 0o666, major: 1, minor: 3},
		{typ: tarReg, name: strings.Repeat("long/", 30) + "name", mode: 0o600},
	}
	var ours, theirs bytes.Buffer
	w, std := newTarWriter(&ours), tar.NewWriter(&theirs)
	for i := range entries {
		e := &entries[i]
		if err := w.header(e); err != nil {
			t.Fatal(err)
		}
		h := &tar.Header{Typeflag: e.typ, Name: e.name, Linkname: e.link, Mode: int64(e.mode), Uid: int(e.uid), Gid: int(e.gid), Size: int64(e.size),
			Devmajor: int64(e.major), Devminor: int64(e.minor), Format: tar.FormatUSTAR}
		if e.mtime != 0 {
			h.ModTime = time.Unix(e.mtime, 0)
		}
		if err := std.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		for _, to := range []io.Writer{w, std} {
			if _, err := to.Write([]byte("hello")[:e.size]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := std.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours.Bytes(), theirs.Bytes()) {
		for i := 0; i < min(ours.Len(), theirs.Len()); i++ {
			if ours.Bytes()[i] != theirs.Bytes()[i] {
				t.Fatalf("first difference at %d (byte %d of a header): %q, want %q", i, i%512, ours.Bytes()[i], theirs.Bytes()[i])
			}
		}
		t.Fatalf("%d bytes, want %d", ours.Len(), theirs.Len())
	}
}

func TestTarWriterHoldsEntriesToTheirSize(t *testing.T) {
	w := newTarWriter(io.Discard)
	if err := w.header(&tarEntry{typ: tarReg, name: "a", size: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("four")); err == nil {
		t.Error("more data than the size was taken")
	}
	if err := w.close(); err == nil {
		t.Error("an entry without its data was taken")
	}
	if err := newTarWriter(io.Discard).header(&tarEntry{typ: tarReg, name: "a", xattrs: []xattr{{"user.a=b", nil}}}); err == nil {
		t.Error("an xattr name with an equals sign was taken")
	}
}
