package rafs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vrafs/rafs"
)

// checkSpans compares the spans of a range with one taken byte by byte.
func checkSpans(t *testing.T, n *rafs.Inode, f *node, chunkBits uint8, off, size uint64) {
	t.Helper()
	spans, err := n.AppendSpans(nil, off, size)
	if err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	want := uint64(0)
	if off < f.size {
		want = min(size, f.size-off)
	}
	pos := off
	for _, s := range spans {
		c := f.chunks[pos>>chunkBits]
		if s.Len == 0 || s.Blob != c.Blob || s.Index != c.Index || s.Off != c.Off+pos&(1<<chunkBits-1) || s.Off+uint64(s.Len) > c.Off+uint64(c.Size) {
			t.Fatalf("%s: span %+v at %#x, chunk %+v", f.name, s, pos, c)
		}
		pos += uint64(s.Len)
	}
	if pos-off != want {
		t.Fatalf("%s: %d bytes at %#x of %d gave %d, want %d", f.name, size, off, f.size, pos-off, want)
	}
}

// compare reads a whole image and compares it with the model it was made from.
func compare(t *testing.T, im *rafs.Image, m *model, r *rand.Rand) {
	t.Helper()
	var visit func(f *node, ino rafs.Ino) rafs.Ino
	visit = func(f *node, ino rafs.Ino) rafs.Ino {
		n, err := im.Inode(ino)
		if err != nil {
			t.Fatalf("%q: %v", f.name, err)
		}
		compareInode(t, im, &n, f.real(), m, r)
		if !f.isDir() {
			return ino
		}
		compareDir(t, &n, f)
		for _, c := range f.children {
			ino, err := n.Lookup([]byte(c.name))
			if err != nil {
				t.Fatalf("lookup %q: %v", c.name, err)
			}
			for _, miss := range []string{c.name + "\x01", c.name[:len(c.name)-1] + "\x00", c.name[:len(c.name)-1]} {
				if _, err := n.Lookup([]byte(miss)); err != rafs.ErrNotExist && !slices.ContainsFunc(f.children, func(c *node) bool { return c.name == miss }) && miss != "." && miss != ".." {
					t.Fatalf("lookup %q: %v", miss, err)
				}
			}
			visit(c, ino)
		}
		return ino
	}
	visit(m.root, im.Root())
	report, err := im.Check(t.Context(), rafs.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := report.Names, uint64(len(m.all())); got != want || im.NameCount() != want {
		t.Errorf("%d names, want %d", got, want)
	}
}

func compareInode(t *testing.T, im *rafs.Image, n *rafs.Inode, f *node, m *model, r *rand.Rand) {
	t.Helper()
	a := n.Attr()
	want := rafs.Attr{Ino: n.Ino(), Mode: f.mode, UID: f.uid, GID: f.gid, Nlink: f.nlink, Size: f.size, Mtime: f.mtime, MtimeNsec: f.nsec}
	if f.mode&rafs.ModeType == rafs.ModeChar {
		want.Rdev = f.rdev
	}
	switch {
	case f.isDir():
		want.Size = a.Size
	case f.target != "":
		want.Size = uint64(len(f.target))
		if got, err := n.Symlink(); err != nil || string(got) != f.target {
			t.Fatalf("%q: target %q, %v", f.name, got, err)
		}
	}
	want.Blocks = a.Blocks
	if a != want {
		t.Fatalf("%q: %+v, want %+v", f.name, a, want)
	}
	names, err := n.AppendXattrNames(nil)
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
	slices.Sort(list)
	if keys := sortedKeys(f.xattrs); strings.Join(list, " ") != strings.Join(keys, " ") {
		t.Fatalf("%q: xattrs %q, want %q", f.name, list, keys)
	}
	for k, v := range f.xattrs {
		if got, ok, err := n.Xattr([]byte(k)); !ok || err != nil || string(got) != v {
			t.Fatalf("%q: xattr %s = %q, %v, %v, want %q", f.name, k, got, ok, err, v)
		}
	}
	if _, ok, err := n.Xattr([]byte("user.none")); ok || err != nil {
		t.Fatalf("%q: xattr that isn't there: %v, %v", f.name, ok, err)
	}
	if !f.isRegular() {
		return
	}
	if got := n.ChunkCount(); got != uint64(len(f.chunks)) {
		t.Fatalf("%q: %d chunks, want %d", f.name, got, len(f.chunks))
	}
	checkSpans(t, n, f, m.chunkBits, 0, f.size+1)
	for range 5 {
		checkSpans(t, n, f, m.chunkBits, r.Uint64N(f.size+2), r.Uint64N(f.size+2))
	}
	for k, c := range f.chunks {
		got, err := n.Chunk(uint64(k))
		if im.Version() == rafs.V6 {
			c = rafs.Chunk{Blob: c.Blob, Index: c.Index, Off: c.Off, Size: c.Size}
		}
		if err != nil || got != c {
			t.Fatalf("%q: chunk %d = %+v, %v, want %+v", f.name, k, got, err, c)
		}
	}
}

// compareDir lists a directory at once and again from every cursor.
func compareDir(t *testing.T, n *rafs.Inode, f *node) {
	t.Helper()
	want := []string{".", ".."}
	for _, c := range f.children {
		want = append(want, c.name)
	}
	read := func(cursor uint64) (names []string, cursors []uint64) {
		cur, err := n.Dir(cursor)
		if err != nil {
			t.Fatal(err)
		}
		for {
			var d rafs.Dirent
			ok, err := cur.Next(&d)
			if err != nil {
				t.Fatalf("%q: %v", f.name, err)
			}
			if !ok {
				return names, cursors
			}
			names, cursors = append(names, string(d.Name)), append(cursors, d.Cursor)
		}
	}
	names, cursors := read(0)
	if !slices.Equal(names, want) {
		t.Fatalf("%q lists %q, want %q", f.name, names, want)
	}
	for i, c := range cursors {
		if rest, _ := read(c); !slices.Equal(rest, want[i+1:]) {
			t.Fatalf("%q after %d lists %q, want %q", f.name, i, rest, want[i+1:])
		}
	}
}

func TestImagesReadBackAsTheirModels(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			m := randomModel(r, 10+r.IntN(200), uint8(12+r.IntN(4)))
			if seed%5 == 4 {
				m.blockBits = rafs.V6BlkSzBitsTarfs
			}
			for _, data := range [][]byte{m.v5(), m.v6()} {
				im, err := rafs.Open(data, rafs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				compare(t, im, m, r)
				compareIndex(t, im, m)
			}
		})
	}
}

// compareIndex finds every chunk by its number.
func compareIndex(t *testing.T, im *rafs.Image, m *model) {
	t.Helper()
	if im.Tarfs() {
		return
	}
	for b := range m.blobs {
		table, err := im.BuildIndex(b, make([]byte, im.IndexBytes(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.table {
			if int(c.Blob) != b {
				continue
			}
			if got, ok := table.Chunk(c.Index); !ok || got != c {
				t.Fatalf("chunk %d of blob %d = %+v, %v, want %+v", c.Index, b, got, ok, c)
			}
		}
		if _, ok := table.Chunk(rafs.ChunkIndex(table.Len())); ok {
			t.Error("a chunk past the end")
		}
	}
}

// bigDir is a model with one directory of n files.
func bigDir(n int) *model {
	m := &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 20, blockBits: 12, blobs: []modelBlob{{id: strings.Repeat("b", 64)}}}
	for i := range n {
		f := &node{name: fmt.Sprintf("some-file-name-%06d", i), mode: rafs.ModeRegular | 0o644, mtime: 1, xattrs: map[string]string{"user.k": "v"}}
		m.addFile(f, 0, 3<<20+uint64(i%4096))
		m.root.children = append(m.root.children, f)
	}
	m.finish()
	return m
}

// TestHotPathsDoNotAllocate holds the operations of a request to no allocation.
func TestHotPathsDoNotAllocate(t *testing.T) {
	m := bigDir(1000)
	for _, data := range [][]byte{m.v5(), m.v6()} {
		im, err := rafs.Open(data, rafs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		name, missing, key := []byte("some-file-name-000777"), []byte("some-file-name"), []byte("user.k")
		spans, names := make([]rafs.Span, 0, 16), make([]byte, 0, 64)
		root, err := im.Inode(im.Root())
		if err != nil {
			t.Fatal(err)
		}
		ops := map[string]func() error{
			"inode, attr": func() error {
				n, err := im.Inode(im.Root())
				if n.Attr().Mode != rafs.ModeDir|0o755 {
					return rafs.ErrNotDir
				}
				return err
			},
			"lookup, spans, xattr": func() error {
				ino, err := root.Lookup(name)
				if err != nil {
					return err
				}
				n, err := im.Inode(ino)
				if err != nil {
					return err
				}
				if spans, err = n.AppendSpans(spans[:0], 1000, 2<<20); err != nil || len(spans) != 3 {
					return err
				}
				if names, err = n.AppendXattrNames(names[:0]); err != nil {
					return err
				}
				v, ok, err := n.Xattr(key)
				if !ok || !bytes.Equal(v, []byte("v")) {
					return rafs.ErrNotExist
				}
				return err
			},
			"missing name": func() error {
				if _, err := root.Lookup(missing); err != rafs.ErrNotExist {
					return rafs.ErrCorrupt
				}
				return nil
			},
			"readdir": func() error {
				cur, err := root.Dir(0)
				var d rafs.Dirent
				for ok := true; ok && err == nil; {
					ok, err = cur.Next(&d)
				}
				return err
			},
		}
		for op, f := range ops {
			var failed error
			if got := testing.AllocsPerRun(20, func() {
				if err := f(); err != nil {
					failed = err
				}
			}); got != 0 || failed != nil {
				t.Errorf("v%d %s: %v allocations, %v", im.Version(), op, got, failed)
			}
		}
	}
}
