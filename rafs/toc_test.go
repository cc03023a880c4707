package rafs_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"vrafs/rafs"
)

func TestTOCs(t *testing.T) {
	const file = 100000
	meta := rafs.TOCEntry{Name: rafs.SectionMeta, Compressor: rafs.CompressorZstd, Off: 100, CompressedSize: 50, UncompressedSize: 160}
	chunks := rafs.TOCEntry{Name: rafs.SectionBlob, Off: 1 << 50, CompressedSize: 1 << 50} // wrong places are usual there
	full := rafs.TOCEntry{Name: rafs.SectionMetaHeader, CompressedSize: 4096, UncompressedSize: 4096}
	for _, tt := range []struct {
		name   string
		tail   []byte
		class  error
		want   string
		damage func(tail []byte)
	}{
		{name: "three_entries", tail: tocTail(chunks, meta, full)},
		{name: "bytes_before", tail: append(make([]byte, 1000), tocTail(meta)...)},
		{name: "no_entries", tail: tocTail()},
		{name: "short", tail: make([]byte, 511), class: rafs.ErrCorrupt, want: "tail of 511 bytes"},
		{name: "long", tail: append(make([]byte, rafs.TOCMaxSize), tocTail()...), class: rafs.ErrCorrupt, want: "tail of"},
		{name: "other_section", tail: tarHeader(rafs.SectionBootstrap, 4096), class: rafs.ErrUnsupported, want: `"image.boot"`},
		{name: "twice", tail: tocTail(meta, meta), class: rafs.ErrCorrupt, want: "twice"},
		{name: "outside", tail: tocTail(rafs.TOCEntry{Name: rafs.SectionMeta, Off: file}), class: rafs.ErrCorrupt, want: "toc.compressed_offset"},
		{name: "overflow", tail: tocTail(rafs.TOCEntry{Name: rafs.SectionMeta, Off: 5, CompressedSize: 1<<64 - 3}), class: rafs.ErrCorrupt, want: "toc.compressed_offset"},
		{name: "no_name", tail: tocTail(rafs.TOCEntry{}), class: rafs.ErrCorrupt, want: "toc.name"},
		{name: "compressor", tail: tocTail(meta), class: rafs.ErrUnsupported, want: "toc.flags", damage: func(b []byte) { b[0] = 8 }},
		{name: "not_whole", tail: append(make([]byte, 100), tarHeader(rafs.SectionTOC, 100)...), class: rafs.ErrCorrupt, want: "toc.size"},
		{name: "runs_out_of_the_tail", tail: tarHeader(rafs.SectionTOC, 128), class: rafs.ErrCorrupt, want: "toc.size"},
		{name: "checksum", tail: tocTail(meta), class: rafs.ErrCorrupt, want: "tar.checksum", damage: func(b []byte) { b[len(b)-400]++ }},
		{name: "magic", tail: tocTail(meta), class: rafs.ErrCorrupt, want: "tar.", damage: func(b []byte) { b[len(b)-512+257] = 'x' }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.damage != nil {
				tt.damage(tt.tail)
			}
			toc, err := rafs.ParseTOC(tt.tail, file)
			if tt.class != nil {
				if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %v with %q", err, tt.class, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := toc.Entry(rafs.SectionMeta); ok && (got != meta || got.Range() != rafs.Section{Name: rafs.SectionMeta, Off: 100, Size: 50}) {
				t.Errorf("got %+v", got)
			}
			if n := uint64(len(toc.Entries())); toc.Size() != n*rafs.TOCEntrySize+rafs.TarHeaderSize {
				t.Errorf("size %d of %d entries", toc.Size(), n)
			}
		})
	}
}

// TestTOCsAreVerified compares size and digest with the blob table's, if it has them.
func TestTOCsAreVerified(t *testing.T) {
	toc, err := rafs.ParseTOC(tocTail(rafs.TOCEntry{Name: rafs.SectionMeta}), 10000)
	if err != nil {
		t.Fatal(err)
	}
	size, digest := uint32(toc.Size()), toc.Digest()
	for _, tt := range []struct {
		name   string
		blob   rafs.Blob
		wanted bool
	}{
		{"unknown", rafs.Blob{}, true},
		{"size_alone", rafs.Blob{TOCSize: 1024}, true},
		{"equal", rafs.Blob{TOCSize: size, TOCDigest: digest}, true},
		{"other_size", rafs.Blob{TOCSize: size + 128, TOCDigest: digest}, false},
		{"other_digest", rafs.Blob{TOCSize: size, TOCDigest: rafs.Digest{1}}, false},
	} {
		if err := toc.Verify(&tt.blob); (err == nil) != tt.wanted {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestTailHeaderSizes reads the size field in all its spellings.
func TestTailHeaderSizes(t *testing.T) {
	base256 := func(v byte) []byte { return append(append([]byte{0x80}, make([]byte, 10)...), v) }
	for _, tt := range []struct {
		name  string
		field []byte
		want  uint64
		ok    bool
	}{
		{"octal", []byte("00000001000\x00"), 512, true},
		{"spaces", []byte("       100 \x00"), 64, true},
		{"no_end", []byte("000000000100"), 64, true},
		{"base_256", base256(200), 200, true},
		{"base_256_too_large", bytes.Repeat([]byte{0xff}, 12), 0, false},
		{"decimal", []byte("00000000009\x00"), 0, false},
		{"empty", make([]byte, 12), 0, false},
		{"more_than_before", []byte("77777777777\x00"), 0, false},
	} {
		h := tarHeader(rafs.SectionMeta, 0)
		copy(h[124:136], tt.field)
		fixChecksum(h)
		s, err := rafs.ParseTailHeader(h, 5000)
		if (err == nil) != tt.ok || tt.ok && (s.Size != tt.want || s.Off != 5000-512-tt.want || s.Name != rafs.SectionMeta) {
			t.Errorf("%s: got %+v, %v", tt.name, s, err)
		}
	}
	if _, err := rafs.ParseTailHeader(tarHeader("x", 0), 511); err == nil {
		t.Error("a header before the start of the file")
	}
}
