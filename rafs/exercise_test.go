package rafs_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"vrafs/rafs"
)

// formatError fails the test unless err is nil, a class of this package, or
// wraps one.
func formatError(t *testing.T, err error) {
	t.Helper()
	for _, class := range []error{nil, rafs.ErrCorrupt, rafs.ErrUnsupported, rafs.ErrNotExist, rafs.ErrNotDir, rafs.ErrNotSymlink, rafs.ErrNotRegular} {
		if errors.Is(err, class) {
			return
		}
	}
	t.Fatalf("error of no class: %v", err)
}

// exercise does to an untrusted bootstrap all that a server and the tools do. It
// fails on errors of no class, on answers that contradict each other, and on
// memory out of proportion to the image. Hangs and panics are the fuzzer's.
func exercise(t *testing.T, data []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	im, err := rafs.Open(data, rafs.Options{Name: "image.boot"})
	if err != nil {
		var fe *rafs.FormatError
		if !errors.As(err, &fe) {
			t.Fatalf("not a FormatError: %v", err)
		}
		return
	}
	for i := range im.Blobs() {
		if n := im.IndexBytes(i); n <= 1<<16 {
			if table, err := im.BuildIndex(i, make([]byte, n)); err == nil {
				for k := range min(table.Len(), 100) {
					table.Chunk(rafs.ChunkIndex(k))
				}
			}
		}
	}
	for i := range min(im.ChunkTableLen(), 100) {
		_, err := im.ChunkTableEntry(i)
		formatError(t, err)
	}
	queue, seen := append([]rafs.Ino{im.Root()}, im.Prefetch()[:min(10, len(im.Prefetch()))]...), map[rafs.Ino]bool{}
	for budget := 300; budget > 0 && len(queue) > 0; budget-- {
		ino := queue[0]
		queue = queue[1:]
		if seen[ino] {
			continue
		}
		seen[ino] = true
		n, err := im.Inode(ino)
		formatError(t, err)
		if err == nil {
			queue = exerciseInode(t, im, &n, queue)
		}
	}
	_, err = im.Check(context.Background(), rafs.CheckOptions{MaxProblems: 20})
	runtime.ReadMemStats(&after)
	if used, limit := after.TotalAlloc-before.TotalAlloc, 8<<20+64*uint64(len(data)); used > limit {
		t.Fatalf("%d bytes allocated for an image of %d", used, len(data))
	}
	_ = err // of any class: a damaged image may still be well-formed
}

func exerciseInode(t *testing.T, im *rafs.Image, n *rafs.Inode, queue []rafs.Ino) []rafs.Ino {
	t.Helper()
	if n.Attr().MtimeNsec > 999_999_999 {
		t.Fatal("mtime_nsec out of range")
	}
	_, err := n.Symlink()
	formatError(t, err)
	_, err = n.Parent()
	formatError(t, err)
	names, err := n.AppendXattrNames(nil)
	formatError(t, err)
	if len(names) > 0 {
		_, _, err = n.Xattr(names[:1])
		formatError(t, err)
	}
	formatError(t, im.VerifyInode(n.Ino()))
	exerciseSpans(t, im, n)
	cur, err := n.Dir(0)
	if err != nil {
		formatError(t, err)
		return queue
	}
	var d rafs.Dirent
	for i, last := 0, uint64(0); i < 200; i++ {
		ok, err := cur.Next(&d)
		formatError(t, err)
		if err != nil || !ok {
			break
		}
		if d.Cursor <= last || len(d.Name) == 0 || len(d.Name) > rafs.MaxNameLen {
			t.Fatalf("entry %q at cursor %d after %d", d.Name, d.Cursor, last)
		}
		last = d.Cursor
		_, err = n.Lookup(d.Name)
		formatError(t, err)
		if len(queue) < 1000 {
			queue = append(queue, d.Ino)
		}
	}
	for _, cursor := range []uint64{1 << 20, 1 << 62, 1<<64 - 1} {
		if cur, err := n.Dir(cursor); err == nil {
			_, err = cur.Next(&d)
			formatError(t, err)
		}
	}
	return queue
}

func exerciseSpans(t *testing.T, im *rafs.Image, n *rafs.Inode) {
	t.Helper()
	for _, r := range [][2]uint64{{0, 1 << 20}, {1, 5000}, {n.Size() / 2, 1 << 16}, {n.Size() - min(n.Size(), 10), 1 << 63}, {1 << 63, 1 << 63}} {
		spans, err := n.AppendSpans(nil, r[0], r[1])
		formatError(t, err)
		if err != nil {
			continue
		}
		var sum, want uint64
		if r[0] < n.Size() {
			want = min(r[1], n.Size()-r[0])
		}
		for _, s := range spans {
			sum += uint64(s.Len)
			if int(s.Blob) >= len(im.Blobs()) || s.Len == 0 {
				t.Fatalf("span %+v", s)
			}
			if im.Version() == rafs.V5 {
				_, err := im.ChunkAt(s.Ref)
				formatError(t, err)
			}
		}
		if n.IsRegular() && sum != want {
			t.Fatalf("spans of %d bytes for %d at %d of %d", sum, r[1], r[0], n.Size())
		}
	}
	for k := range min(n.ChunkCount(), 20) {
		_, err := n.Chunk(k)
		formatError(t, err)
	}
	_, err := im.ChunkAt(n.Size())
	formatError(t, err)
}
