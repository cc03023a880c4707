package bootload

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// v5Boot is the smallest v5 bootstrap: an empty root directory and no blobs.
func v5Boot() []byte {
	const table, inode = rafs.V5SuperSize, rafs.V5SuperSize + 8
	b := make([]byte, inode+rafs.V5InodeSize+8)
	le := binary.LittleEndian
	le.PutUint32(b[rafs.V5SuperMagicAt:], rafs.V5Magic)
	le.PutUint32(b[rafs.V5SuperVersionAt:], rafs.V5FSVersion)
	le.PutUint32(b[rafs.V5SuperSizeAt:], rafs.V5SuperSize)
	le.PutUint32(b[rafs.V5SuperBlockSizeAt:], 0x100000)
	le.PutUint64(b[rafs.V5SuperFlagsAt:], uint64(rafs.FlagCompressionNone|rafs.FlagHashBLAKE3))
	le.PutUint64(b[rafs.V5SuperInodesCountAt:], 1)
	le.PutUint64(b[rafs.V5SuperInodeTableAt:], table)
	le.PutUint32(b[rafs.V5SuperInodeEntriesAt:], 1)
	le.PutUint32(b[table:], inode>>rafs.V5InodeShift)
	n := b[inode:]
	le.PutUint64(n[rafs.V5InodeInoAt:], rafs.V5RootIno)
	le.PutUint32(n[rafs.V5InodeModeAt:], rafs.ModeDir|0o755)
	le.PutUint32(n[rafs.V5InodeNlinkAt:], 2)
	le.PutUint16(n[rafs.V5InodeNameSizeAt:], 1)
	n[rafs.V5InodeSize] = '/'
	return b
}

// blob is data followed by sections, each with its tar header after it.
func blob(t *testing.T, sections ...section) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, s := range sections {
		out.Write(s.data)
		var header bytes.Buffer
		err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: s.name, Size: int64(len(s.data)), Typeflag: tar.TypeReg, Format: tar.FormatGNU})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(header.Bytes()[:rafs.TarHeaderSize])
	}
	return out.Bytes()
}

type section struct {
	name string
	data []byte
}

func tocEntry(name string, flags uint32, off, size int, plain []byte) []byte {
	b := make([]byte, rafs.TOCEntrySize)
	binary.LittleEndian.PutUint32(b[rafs.TOCFlagsAt:], flags)
	copy(b[rafs.TOCNameAt:], name)
	sum := sha256.Sum256(plain)
	copy(b[rafs.TOCDigestAt:], sum[:])
	binary.LittleEndian.PutUint64(b[rafs.TOCCompressedOffAt:], uint64(off))
	binary.LittleEndian.PutUint64(b[rafs.TOCCompressedSizeAt:], uint64(size))
	binary.LittleEndian.PutUint64(b[rafs.TOCUncompressedAt:], uint64(len(plain)))
	return b
}

func zstd(t *testing.T, plain []byte) []byte {
	t.Helper()
	var e codec.Encoder
	packed, ok, err := e.Compress(nil, plain, rafs.CompressorZstd)
	if err != nil || !ok {
		t.Fatal("compress:", ok, err)
	}
	return packed
}

func TestOpen(t *testing.T) {
	boot := v5Boot()
	data := bytes.Repeat([]byte("data"), 300)
	packed := zstd(t, boot)
	wrong := bytes.Clone(boot)
	wrong[len(wrong)-1]++
	tests := []struct {
		name    string
		file    []byte
		inlined bool
		err     error
		text    string
	}{
		{"bare", boot, false, nil, ""},
		{"last section", blob(t, section{"image.blob", data}, section{"image.boot", boot}), true, nil, ""},
		{"not the last section", blob(t, section{"image.boot", boot}, section{"blob.meta", data}), true, nil, ""},
		{"ToC, zstd", blob(t, section{"image.blob", data}, section{"image.boot", packed},
			section{"rafs.blob.toc", tocEntry("image.boot", rafs.TOCFlagZstd, 1712, len(packed), boot)}), true, nil, ""},
		{"ToC, plain", blob(t, section{"image.boot", boot},
			section{"rafs.blob.toc", tocEntry("image.boot", rafs.TOCFlagNone, 0, len(boot), boot)}), true, nil, ""},
		{"ToC without bootstrap", blob(t, section{"image.blob", data},
			section{"rafs.blob.toc", tocEntry("image.blob", rafs.TOCFlagNone, 0, len(data), data)}), true, ErrNotImage, "in another file"},
		{"digest differs", blob(t, section{"image.boot", boot},
			section{"rafs.blob.toc", tocEntry("image.boot", rafs.TOCFlagNone, 0, len(boot), wrong)}), true, rafs.ErrCorrupt, "toc.digest"},
		{"size differs", blob(t, section{"image.boot", packed},
			section{"rafs.blob.toc", tocEntry("image.boot", rafs.TOCFlagZstd, 0, len(packed), boot[1:])}), true, codec.ErrData, ""},
		{"huge claim", blob(t, section{"image.boot", packed},
			section{"rafs.blob.toc", func() []byte {
				e := tocEntry("image.boot", rafs.TOCFlagZstd, 0, len(packed), boot)
				binary.LittleEndian.PutUint64(e[rafs.TOCUncompressedAt:], 1<<62)
				return e
			}()}), true, rafs.ErrCorrupt, "toc.size"},
		{"blob without bootstrap", blob(t, section{"image.blob", data}), true, ErrNotImage, "in another file"},
		{"empty", nil, false, ErrNotImage, "only 0 bytes"},
		{"text", bytes.Repeat([]byte("hello "), 500), false, ErrNotImage, "neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file.boot")
			if err := os.WriteFile(path, tt.file, 0o644); err != nil {
				t.Fatal(err)
			}
			b, err := Open(opener.Local(), path)
			if tt.err != nil {
				if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), path) {
					t.Errorf("got %v, want %v with %q", err, tt.err, tt.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if b.Inlined != tt.inlined || b.Image.Version() != rafs.V5 || b.Name != "file.boot" || !bytes.Equal(b.Bytes(), boot) {
				t.Errorf("got inlined %v, version %d, name %s", b.Inlined, b.Image.Version(), b.Name)
			}
		})
	}
}

func FuzzExtract(f *testing.F) {
	boot := v5Boot()
	var t testing.T
	f.Add(blob(&t, section{"image.boot", boot}))
	f.Add(blob(&t, section{"image.boot", boot}, section{"rafs.blob.toc", tocEntry("image.boot", rafs.TOCFlagNone, 0, len(boot), boot)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Extract(bytes.NewReader(data), uint64(len(data)), "x")
		if err == nil {
			if len(b.Bytes()) == 0 {
				t.Error("empty bootstrap accepted")
			}
			b.Close()
		}
	})
}
