package build_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"vrafs/build"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// A stargzLayer is an eStargz layer with its table of contents.
type stargzLayer struct {
	blob    []byte
	entries []map[string]any
}

// toc is the table of contents as JSON.
func (l *stargzLayer) toc(t *testing.T) []byte {
	t.Helper()
	p, err := json.Marshal(map[string]any{"version": 1, "entries": l.entries, "more": []int{1}})
	steps(t, err)
	return p
}

// store keeps the layer in dir under its digest.
func (l *stargzLayer) store(t *testing.T, dir string) (id string) {
	t.Helper()
	sum := sha256.Sum256(l.blob)
	id = hex.EncodeToString(sum[:])
	steps(t, os.WriteFile(filepath.Join(dir, id), l.blob, 0o600))
	return id
}

var stargzNames = map[byte]string{tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink",
	tar.TypeLink: "hardlink", tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo"}

// stargz makes an eStargz layer of a tar. As in real ones, a gzip member begins
// with every chunk and goes on behind it.
func stargz(t *testing.T, plain []byte, chunkSize int) *stargzLayer {
	t.Helper()
	l := &stargzLayer{}
	r := tar.NewReader(bytes.NewReader(plain))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		steps(t, err)
		if !utf8.ValidString(h.Name + h.Linkname) {
			continue // JSON can't hold it
		}
		data, err := io.ReadAll(r)
		steps(t, err)
		l.blob = append(l.blob, packed(t, []byte("the header of "+h.Name), 6)...)
		l.add(t, h, data, chunkSize)
	}
	l.blob = append(l.blob, packed(t, []byte("the table of contents"), 6)...)
	return l
}

// add appends one entry of a tar.
func (l *stargzLayer) add(t *testing.T, h *tar.Header, data []byte, chunkSize int) {
	t.Helper()
	xattrs := map[string][]byte{}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			xattrs[name] = []byte(v)
		}
	}
	e := map[string]any{"name": h.Name, "type": stargzNames[h.Typeflag], "size": len(data), "mode": h.Mode,
		"modtime": h.ModTime.UTC().Format(time.RFC3339), "linkName": h.Linkname, "uid": h.Uid, "gid": h.Gid,
		"devMajor": h.Devmajor, "devMinor": h.Devminor, "xattrs": xattrs, "userName": "somebody", "NumLink": 1}
	for off := 0; ; off += chunkSize {
		chunk := data[off:min(off+chunkSize, len(data))]
		if len(data) > 0 {
			sum := sha256.Sum256(chunk)
			e["chunkDigest"] = "sha256:" + hex.EncodeToString(sum[:])
			e["offset"], e["chunkOffset"] = len(l.blob), off
			if off+chunkSize < len(data) {
				e["chunkSize"] = chunkSize // that of the last goes without saying
			}
			l.blob = append(l.blob, packed(t, append(bytes.Clone(chunk), "padding and the next header"...), 6)...)
		}
		l.entries = append(l.entries, e)
		if off+chunkSize >= len(data) {
			return
		}
		e = map[string]any{"name": h.Name, "type": "chunk"}
	}
}

func TestTableOfContentsOfEStargzGivesTheTreeOfTheLayer(t *testing.T) {
	tree := tarTree(t)
	layer := stargz(t, gnuTar(t, tree, "--format=pax"), 0x4000)
	want := slices.DeleteFunc(seconds(scanTarred(t, tree)), func(e testtree.Entry) bool { return !utf8.ValidString(e.Path + e.Target) })
	for _, tt := range []struct {
		name string
		o    build.Options
	}{
		{"v5", build.Options{Version: rafs.V5}},
		{"v6", build.Options{Version: rafs.V6, BlobDataSize: uint64(len(layer.blob))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			boot := filepath.Join(t.TempDir(), "image.boot")
			tt.o.BlobID, tt.o.ChunkSize = layer.store(t, dir), 0x4000
			res, err := build.Build(t.Context(), build.Stream(build.TypeEStargzIndex, bytes.NewReader(layer.toc(t)), "toc"),
				build.Sink{Bootstrap: boot, BlobDir: dir}, tt.o)
			steps(t, err)
			if len(res.Blobs) != 1 || res.Blobs[0] != tt.o.BlobID || res.Compressor != rafs.CompressorGzip {
				t.Errorf("blobs %q of compressor %v, want %s", res.Blobs, res.Compressor, tt.o.BlobID)
			}
			got, err := testimage.Scan(boot, dir)
			steps(t, err)
			want := testimage.Expected(want, tt.o.Version)
			testimage.Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
			again, _ := unpacked(t, openImage(t, boot, dir), build.Options{})
			testimage.Compare(t, want, again, testtree.DiffOptions{SkipRoot: true})
		})
	}
}

func TestTableOfContentsNeedsNoPlaceForABlob(t *testing.T) {
	layer := stargz(t, archive(t, fileEntry("a", "data of a"), fileEntry("b", "data of b")), 0x400000)
	dir := t.TempDir()
	boot := filepath.Join(dir, "image.boot")
	o := build.Options{BlobID: layer.store(t, dir), ChunkSize: 0x400000}
	_, err := build.Build(t.Context(), build.Stream(build.TypeEStargzIndex, bytes.NewReader(layer.toc(t)), "toc"), build.Sink{Bootstrap: boot}, o)
	steps(t, err)
	got, _ := unpacked(t, openImage(t, boot, dir), build.Options{})
	if s := outline(got); s != "a=9 b=9" {
		t.Errorf("got %s", s)
	}
}

func TestDamagedMemberOfAnEStargzLayerIsNotRead(t *testing.T) {
	layer := stargz(t, archive(t, fileEntry("a", strings.Repeat("data of a", 1000))), 0x400000)
	dir := t.TempDir()
	boot := filepath.Join(dir, "image.boot")
	layer.entries[0]["chunkDigest"] = "sha256:" + strings.Repeat("ab", 32)
	_, err := build.Build(t.Context(), build.Stream(build.TypeEStargzIndex, bytes.NewReader(layer.toc(t)), "toc"), build.Sink{Bootstrap: boot},
		build.Options{BlobID: layer.store(t, dir), ChunkSize: 0x400000})
	steps(t, err)
	if err := build.Unpack(t.Context(), openImage(t, boot, dir), io.Discard, build.UnpackOptions{}); err == nil {
		t.Error("data that has another digest was unpacked")
	}
}

func TestTableOfContentsThatCannotBeKeptToIsRefused(t *testing.T) {
	reg := func(more string) string {
		return `{"version":1,"entries":[{"name":"a","type":"reg","size":5,` + more + `}]}`
	}
	digest := `"chunkDigest":"sha256:` + strings.Repeat("ab", 32) + `"`
	tests := []struct {
		name, toc string
		want      string
	}{
		{"no_json", "no", "not a JSON object"},
		{"other_version", `{"version":2,"entries":[]}`, "version 2"},
		{"no_version", `{"entries":[]}`, "version 0"},
		{"entries_no_list", `{"version":1,"entries":{}}`, "not a list"},
		{"cut", reg(digest)[:70], "unexpected EOF"},
		{"cut_before_the_entries", `{"version":1`, "unexpected EOF"},
		{"cut_behind_the_entries", strings.TrimSuffix(reg(digest), "}"), "unexpected EOF"},
		{"no_digest", reg(`"offset":1`), "no SHA-256 digest"},
		{"short_digest", reg(`"chunkDigest":"sha256:abcd"`), "no SHA-256 digest"},
		{"other_digest", reg(`"chunkDigest":"md5:abcd"`), "no SHA-256 digest"},
		{"shared_stream", reg(digest + `,"innerOffset":3`), "share a gzip stream"},
		{"odd_chunk", reg(digest + `,"chunkSize":2`), "--chunk-size"},
		{"missing_chunk", `{"version":1,"entries":[{"name":"a","type":"reg","size":5000,"chunkSize":4096,` + digest + `}]}`, "4096 of 5000 bytes"},
		{"chunk_of_another", `{"version":1,"entries":[{"name":"a","type":"dir"},{"name":"b","type":"chunk"}]}`, "another file"},
		{"chunk_of_directory", `{"version":1,"entries":[{"name":"a","type":"dir"},{"name":"a","type":"chunk"}]}`, "without a file"},
		{"chunk_too_many", `{"version":1,"entries":[{"name":"a","type":"reg","size":5,` + digest + `},{"name":"a","type":"chunk"}]}`, "more chunks"},
		{"unknown_type", `{"version":1,"entries":[{"name":"a","type":"door"}]}`, `type "door"`},
		{"time", `{"version":1,"entries":[{"name":"a","type":"dir","modtime":"noon"}]}`, "modtime"},
		{"far_offset", reg(digest + `,"offset":1099511627777`), "offset"},
		{"behind_the_layer", reg(digest + `,"offset":900`), "--blob-data-size"},
		{"many_chunks", `{"version":1,"entries":[{"name":"a","type":"reg","size":9000000000000000000}]}`, "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build.Build(t.Context(), build.Stream(build.TypeEStargzIndex, strings.NewReader(tt.toc), "toc"),
				build.Sink{BootstrapWriter: io.Discard}, build.Options{BlobID: "x", ChunkSize: 0x1000, BlobDataSize: 800})
			if !errors.Is(err, build.ErrSource) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("error %v, want one of class %v with %q", err, build.ErrSource, tt.want)
			}
		})
	}
}
