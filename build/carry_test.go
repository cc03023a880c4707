package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"vrafs/rafs"
)

// carryBuild makes a bootstrap of files that hold their names.
func carryBuild(t *testing.T, o Options, names ...string) (*Image, error) {
	t.Helper()
	o.ChunkSize = 4096
	var boot, blob bytes.Buffer
	_, err := Build(t.Context(), Stream(TypeTar, bytes.NewReader(fuzzTar(names...)), "carry"),
		Sink{BlobWriter: &blob, BootstrapWriter: &boot}, o)
	return &Image{Name: "base", Data: boot.Bytes()}, err
}

func mustCarry(t *testing.T, o Options, names ...string) *Image {
	t.Helper()
	im, err := carryBuild(t, o, names...)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// fileOffset gives the place of a file's inode.
func fileOffset(t *testing.T, im *Image, name string) uint64 {
	t.Helper()
	n := fileAt(t, im, name)
	return n.Offset()
}

// fileAt finds a file of the root.
func fileAt(t *testing.T, im *Image, name string) rafs.Inode {
	t.Helper()
	src, err := rafs.Open(im.Data, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := src.Inode(src.Root())
	if err != nil {
		t.Fatal(err)
	}
	ino, err := root.Lookup([]byte(name))
	if err != nil {
		t.Fatal(err)
	}
	n, err := src.Inode(ino)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tableEntry gives entry i of the chunk table of a v6 bootstrap whose files have no data.
func tableEntry(t *testing.T, im *Image, i int) []byte {
	t.Helper()
	for _, name := range []string{"one", "other"} {
		n := fileAt(t, im, name)
		le.PutUint64(im.Data[n.Offset()+rafs.V6ExtendedSizeAt:], 0)
	}
	table := le.Uint64(im.Data[rafs.V6ExtOff+rafs.V6ExtChunkTableAt:])
	return im.Data[table+uint64(i)*rafs.ChunkInfoSize:]
}

func TestImagesThatReadersBearAreNotCarriedOver(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version rafs.Version
		damage  func(t *testing.T, im *Image)
		want    string
	}{
		{"two v5 records of one chunk", rafs.V5, func(t *testing.T, im *Image) {
			a, b := fileAt(t, im, "one"), fileAt(t, im, "other")
			copy(im.Data[b.ChunkRef(0)+rafs.ChunkInfoIndexAt:][:4], im.Data[a.ChunkRef(0)+rafs.ChunkInfoIndexAt:])
		}, "differs from another record of chunk 0 of blob 0"},
		{"v5 file shorter than its chunk", rafs.V5, func(t *testing.T, im *Image) {
			n := fileAt(t, im, "other")
			im.Data[n.Offset()+rafs.V5InodeFlagsAt] |= byte(rafs.V5InodeHasHole)
			le.PutUint64(im.Data[n.Offset()+rafs.V5InodeSizeAt:], 3)
		}, "chunk 0 is not all of what the file has from 0x0 on"},
		{"v5 file with a chunk too many", rafs.V5, func(t *testing.T, im *Image) {
			n := fileAt(t, im, "one")
			im.Data[n.Offset()+rafs.V5InodeFlagsAt] |= byte(rafs.V5InodeHasHole)
			le.PutUint64(im.Data[n.Offset()+rafs.V5InodeSizeAt:], 0)
		}, "1 chunks for 0 bytes"},
		{"v5 image without sizes of blobs", rafs.V5, func(_ *testing.T, im *Image) {
			le.PutUint64(im.Data[rafs.V5SuperExtTableAt:], 0)
		}, "super.extended_blob_table at 0x48: none"},
		{"v6 chunk between two blocks", rafs.V6, func(t *testing.T, im *Image) {
			tableEntry(t, im, 0)[rafs.ChunkInfoUncompressedOffAt] |= 1
		}, "chunk table entry 0: chunk.uncompressed_offset"},
		{"v6 chunk beyond the last of its blob", rafs.V6, func(t *testing.T, im *Image) {
			tableEntry(t, im, 1)
			blobs := le.Uint64(im.Data[rafs.V6ExtOff+rafs.V6ExtBlobTableAt:])
			le.PutUint32(im.Data[blobs+rafs.V6BlobChunkCountAt:], 0)
			le.PutUint64(im.Data[blobs+rafs.V6BlobCIUncompressedAt:], 0)
			le.PutUint64(im.Data[blobs+rafs.V6BlobCICompressedAt:], 0)
		}, "chunk.index"},
		{"two v6 records of one chunk", rafs.V6, func(t *testing.T, im *Image) {
			first := tableEntry(t, im, 0)
			copy(first[rafs.ChunkInfoSize+rafs.ChunkInfoIndexAt:][:4], first[rafs.ChunkInfoIndexAt:])
		}, "blob 0 twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := mustCarry(t, Options{Version: tt.version}, "one", "other")
			tt.damage(t, im)
			for use, o := range map[string]Options{
				"parent":     {Version: tt.version, Parent: im},
				"dictionary": {Version: tt.version, ChunkDict: im},
			} {
				_, err := carryBuild(t, o, "one")
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "check the result") {
					t.Errorf("%s: got %v, want %s", use, err, tt.want)
				}
			}
		})
	}
}

// sharedXattrs is a v6 bootstrap of files that all have the same large attributes,
// stored once.
func sharedXattrs(t *testing.T, files, xattrs int) *Image {
	t.Helper()
	var archive, boot bytes.Buffer
	w := tar.NewWriter(&archive)
	for i := range files {
		if err := w.WriteHeader(&tar.Header{Name: strconv.Itoa(i), Mode: 0o644,
			PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 4*xattrs)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), Stream(TypeTar, &archive, "shared"), Sink{BootstrapWriter: &boot}, Options{ChunkSize: 4096}); err != nil {
		t.Fatal(err)
	}
	im := &Image{Name: "base", Data: boot.Bytes()}
	area := uint32(len(im.Data))
	for i := range files {
		head := im.Data[fileOffset(t, im, strconv.Itoa(i)):]
		le.PutUint16(head[rafs.V6InodeXattrICountAt:], uint16(1+xattrs))
		ids := head[rafs.V6ExtendedSize:]
		ids[rafs.V6XattrSharedCountAt] = byte(xattrs)
		for k := range xattrs {
			le.PutUint32(ids[rafs.V6XattrHeaderSize+4*k:], uint32(k)*0xfffc/rafs.V6XattrAlign)
		}
	}
	le.PutUint32(im.Data[rafs.V6SuperOff+rafs.V6SuperXattrBlkaddrAt:], area>>rafs.V6BlkSzBits)
	for k := range xattrs {
		e := make([]byte, 0xfffc)
		e[rafs.V6XattrNameLenAt], e[rafs.V6XattrNameIndexAt] = 2, rafs.V6XattrUser
		le.PutUint16(e[rafs.V6XattrValueSizeAt:], uint16(len(e)-rafs.V6XattrEntrySize-2))
		copy(e[rafs.V6XattrEntrySize:], fmt.Sprintf("%02d", k))
		im.Data = append(im.Data, e...)
	}
	im.Data = append(im.Data, make([]byte, alignUp(uint64(len(im.Data)), rafs.V6Align)-uint64(len(im.Data)))...)
	return im
}

func TestSharedXattrsAreCarriedOverWithinBounds(t *testing.T) {
	if _, err := carryBuild(t, Options{Parent: sharedXattrs(t, 20, 3)}, "one"); err != nil {
		t.Errorf("attributes of a few inodes: %v", err)
	}
	im := sharedXattrs(t, 40, 3)
	if _, err := carryBuild(t, Options{Parent: im}, "one"); !errors.Is(err, rafs.ErrUnsupported) || !strings.Contains(err.Error(), "shared attributes") {
		t.Errorf("attributes of many inodes: %v, want a refusal", err)
	}
}

func TestBlobTablesThatCannotBeStoredAreRefused(t *testing.T) {
	long := []rafs.Blob{{ID: strings.Repeat("x", rafs.V6BlobIDSize+1)}}
	for _, m := range []*image{
		{version: rafs.V5, blobs: make([]rafs.Blob, rafs.V5MaxBlobs+1)},
		{version: rafs.V6, blobs: make([]rafs.Blob, rafs.V6MaxBlobs+1)},
		{version: rafs.V6, blobs: long},
	} {
		if _, err := m.encode(); !errors.Is(err, ErrInconsistent) {
			t.Errorf("v%d with %d blobs: %v", m.version, len(m.blobs), err)
		}
	}
}

func TestBlobsOfOneIDAreNotCarriedOver(t *testing.T) {
	if err := carriedBlobs([]rafs.Blob{{ID: "a"}, {ID: "b"}, {ID: "a"}}); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("got %v, want a corrupt image", err)
	}
}

func TestImagesMustAgreeAboutChunks(t *testing.T) {
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		o := Options{Version: v, BlobID: "shared"}
		one, other, both, pair := mustCarry(t, o, "one"), mustCarry(t, o, "other"), mustCarry(t, o, "one", "other"), mustCarry(t, o, "two", "other")
		layered := func(parent, dict *Image) error {
			_, err := carryBuild(t, Options{Version: v, Parent: parent, ChunkDict: dict}, "other")
			return err
		}
		_, merged := Merge(t.Context(), []Layer{{Image: *one}, {Image: *other}},
			Sink{BootstrapWriter: new(bytes.Buffer)}, MergeOptions{HaveBackend: true})
		for _, tt := range []struct {
			want string
			err  error
		}{
			{"two descriptions of chunk 0", layered(one, other)},
			{"two descriptions of blob shared: 1 and 2 chunks", layered(one, both)},
			{"two descriptions of chunk 0", merged},
		} {
			if !errors.Is(tt.err, ErrInconsistent) || !strings.Contains(tt.err.Error(), tt.want) {
				t.Errorf("v%d: got %v, want %s", v, tt.err, tt.want)
			}
		}
		for _, parent := range []*Image{both, pair} {
			if err := layered(parent, both); err != nil {
				t.Errorf("v%d: parent and dictionary that agree about the chunk in use: %v", v, err)
			}
		}
	}
}
