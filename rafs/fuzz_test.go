package rafs_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// seeds adds small images of ours and, where they are at hand, real ones.
func seeds(f *testing.F, write func(*model) []byte, real ...string) {
	f.Helper()
	for seed := range uint64(4) {
		m := randomModel(rand.New(rand.NewPCG(seed, 77)), 12, 12)
		if seed == 3 {
			m.blockBits = rafs.V6BlkSzBitsTarfs
		}
		f.Add(write(m), []byte{})
		f.Add(write(m), []byte{byte(seed), 32, 2, 0xff, 0xff, 0xff, 0xff})
	}
	for _, name := range real {
		if b := sample(f, name); b != nil {
			f.Add(b, []byte{})
		}
	}
}

// sample gives a real image as a seed, nil on machines without them.
func sample(f *testing.F, name string) []byte {
	f.Helper()
	if testenv.Missing(testenv.Samples) != "" {
		return nil
	}
	return readReal(f, name)
}

// patch gives a copy of data in which each 7 bytes of patches have replaced 4: a
// place (24 bits, wrapped to the image) and a value. It lets the fuzzer change
// fields far apart without finding the bytes between them.
func patch(data, patches []byte) []byte {
	data = append([]byte(nil), data...)
	for ; len(patches) >= 7 && len(data) >= 4; patches = patches[7:] {
		at := int(patches[0]) | int(patches[1])<<8 | int(patches[2])<<16
		copy(data[at%(len(data)-3):], patches[3:7])
	}
	return data
}

func FuzzBootstrapV5(f *testing.F) {
	seeds(f, (*model).v5, realV5SHA256, realV5BLAKE3)
	f.Fuzz(func(t *testing.T, data, patches []byte) {
		data = patch(data, patches)
		if len(data) >= 8 { // let no run be wasted on the magic number
			le.PutUint32(data, rafs.V5Magic)
			le.PutUint32(data[4:], rafs.V5FSVersion)
		}
		exercise(t, data)
	})
}

func FuzzBootstrapV6(f *testing.F) {
	seeds(f, (*model).v6, realV6)
	f.Fuzz(func(t *testing.T, data, patches []byte) {
		data = patch(data, patches)
		if len(data) >= rafs.V6ExtOff {
			sb := data[rafs.V6SuperOff:]
			le.PutUint32(sb, rafs.V6Magic)
			le.PutUint32(sb[rafs.V6SuperIncompatAt:], rafs.V6IncompatWanted)
		}
		exercise(t, data)
	})
}

// FuzzXattr puts arbitrary bytes where the attributes of the root are.
func FuzzXattr(f *testing.F) {
	f.Add([]byte{}, uint16(1), false)
	f.Add(xattrEntry("user.name", "value"), uint16(4), false)
	f.Add(append(le.AppendUint32(nil, 9), "user.a\x00bb"...), uint16(13), true)
	f.Add([]byte{0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1}, uint16(70), false)
	f.Fuzz(func(t *testing.T, area []byte, size uint16, v5 bool) {
		m := &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 12, blockBits: 12, plain: true}
		m.finish()
		var data []byte
		if v5 {
			data = m.v5()
			at := le.Uint32(data[rafs.V5SuperSize:]) << rafs.V5InodeShift
			le.PutUint64(data[at+rafs.V5InodeFlagsAt:], rafs.V5InodeXattr)
			data = le.AppendUint64(data, uint64(size))
			data = append(data, area...)
			data = append(data, make([]byte, up(uint64(len(data)), 8)-uint64(len(data)))...)
		} else {
			data = m.v6()
			at := uint64(rafs.V6RootOff)
			le.PutUint16(data[at+rafs.V6InodeXattrICountAt:], size)
			// move the directory's block behind the attributes
			block := up(at+64+uint64(len(area)), 4096)
			out := make([]byte, block+4096)
			copy(out, data[:at+64])
			copy(out[at+64:], area)
			from := uint64(le.Uint32(data[at+rafs.V6ExtendedUAt:])) * 4096
			copy(out[block:], data[from:from+4096])
			le.PutUint32(out[at+rafs.V6ExtendedUAt:], uint32(block/4096))
			data = out
		}
		exercise(t, data)
	})
}

// FuzzBlobMeta reads every chunk of an arbitrary array under arbitrary features.
func FuzzBlobMeta(f *testing.F) {
	f.Add(uint32(rafs.BlobAligned), uint32(2), uint32(0), make([]byte, 32))
	f.Add(uint32(rafs.BlobChunkInfoV2|rafs.BlobBatch), uint32(2), uint32(1), make([]byte, 48+40))
	f.Add(uint32(rafs.BlobChunkInfoV2|rafs.BlobZran|rafs.BlobSeparate), uint32(1), uint32(1), make([]byte, 24+40+100))
	f.Fuzz(func(t *testing.T, features, count, contexts uint32, array []byte) {
		b := &rafs.Blob{
			ChunkCount: count, ChunkSize: rafs.MaxChunkSize, Features: rafs.BlobFeatures(features),
			CompressedSize: 1 << 40, UncompressedSize: 1 << 44,
			MetaOff: 4096, MetaCompressedSize: uint64(len(array)), MetaUncompressedSize: uint64(len(array)),
		}
		header := metaHeader(b, uint64(count)*b.ChunkInfoSize(), uint64(len(array))-min(uint64(len(array)), uint64(count)*b.ChunkInfoSize()), contexts)
		m, err := rafs.ParseBlobMeta(b, header, array)
		formatError(t, err)
		if err != nil {
			return
		}
		for i := range min(m.Len(), 1000) {
			c, err := m.Chunk(rafs.ChunkIndex(i))
			formatError(t, err)
			if err != nil {
				continue
			}
			if c.Size == 0 || c.Size > rafs.MaxChunkSize || c.UnitSize > rafs.MaxUnitSize ||
				c.UnitSize != 0 && uint64(c.UnitOff)+uint64(c.Size) > uint64(c.UnitSize) || c.CompressedSize > 3*rafs.MaxUnitSize {
				t.Fatalf("chunk %+v", c)
			}
			if k, ok := m.Find(c.Off); ok {
				if o, err := m.Chunk(k); err != nil || c.Off < o.Off || c.Off >= o.Off+uint64(o.Size) {
					t.Fatalf("offset %#x found in %+v, %v", c.Off, o, err)
				}
			}
			if c.Flags&(rafs.ChunkBatch|rafs.ChunkZran) == 0 {
				repack(t, b, array, &c)
			}
		}
		for i := range min(m.ZranCount(), 1000) {
			z, err := m.Zran(i)
			formatError(t, err)
			if len(z.Dict) > rafs.ZranMaxDict || z.OutLen > rafs.MaxUnitSize {
				t.Fatalf("context %+v", z)
			}
		}
	})
}

// repack encodes a chunk again and compares the bits that carry a meaning.
func repack(t *testing.T, b *rafs.Blob, array []byte, c *rafs.Chunk) {
	t.Helper()
	at := uint64(c.Index) * b.ChunkInfoSize()
	if b.ChunkInfoSize() == rafs.ChunkInfoV1Size {
		u, s := rafs.PackChunkInfoV1(c)
		if got := le.Uint64(array[at:]) &^ 0xff; u != got || s != le.Uint64(array[at+8:]) {
			t.Fatalf("%+v encodes as %#x %#x, was %#x", c, u, s, array[at:][:16])
		}
		return
	}
	u, s, d := rafs.PackChunkInfoV2(c)
	const unknown = 0xe0 << 56
	got, data := le.Uint64(array[at:])&^uint64(unknown), le.Uint64(array[at+16:])
	if got>>56&rafs.ChunkV2HasCRC == 0 || uint32(data) == 0 {
		got, data = got&^(rafs.ChunkV2HasCRC<<56), 0
	}
	if u != got || s != le.Uint64(array[at+8:]) || d != data&0xffff_ffff {
		t.Fatalf("%+v encodes as %#x %#x %#x, was %#x", c, u, s, d, array[at:][:24])
	}
}

// metaHeader makes the header that belongs to a blob.
func metaHeader(b *rafs.Blob, tables, size uint64, contexts uint32) []byte {
	h := make([]byte, rafs.BlobMetaHeaderSize)
	le.PutUint32(h, rafs.BlobMetaMagic)
	le.PutUint32(h[rafs.BlobMetaMagic2At:], rafs.BlobMetaMagic)
	le.PutUint32(h[rafs.BlobMetaFeaturesAt:], uint32(b.Features))
	le.PutUint32(h[rafs.BlobMetaCompressorAt:], uint32(b.MetaCompressor))
	le.PutUint32(h[rafs.BlobMetaEntriesAt:], b.ChunkCount)
	le.PutUint64(h[rafs.BlobMetaOffsetAt:], b.MetaOff)
	le.PutUint64(h[rafs.BlobMetaCompressedAt:], b.MetaCompressedSize)
	le.PutUint64(h[rafs.BlobMetaUncompressedAt:], b.MetaUncompressedSize)
	le.PutUint64(h[rafs.BlobMetaContextsAt:], tables)
	le.PutUint64(h[rafs.BlobMetaContextsSizeAt:], size)
	le.PutUint32(h[rafs.BlobMetaContextsCountAt:], contexts)
	return h
}

// FuzzTOC parses an arbitrary tail; the tar header's checksum is made right, so
// that the fuzzer gets past it.
func FuzzTOC(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add(tocTail(rafs.TOCEntry{Name: rafs.SectionMeta, CompressedSize: 10, UncompressedSize: 10}), uint64(0))
	f.Add(tocTail(rafs.TOCEntry{Name: rafs.SectionBlob, Compressor: rafs.CompressorZstd}, rafs.TOCEntry{Name: rafs.SectionDigest}), uint64(5000))
	if b := sample(f, realV6Blob); b != nil {
		f.Add(b[len(b)-rafs.TOCTailSize:], uint64(len(b)-rafs.TOCTailSize))
	}
	f.Fuzz(func(t *testing.T, tail []byte, before uint64) {
		size := before + uint64(len(tail))
		if size < before {
			return
		}
		if n := len(tail); n >= rafs.TarHeaderSize {
			fixChecksum(tail[n-rafs.TarHeaderSize:])
		}
		toc, err := rafs.ParseTOC(tail, size)
		formatError(t, err)
		if err == nil {
			for _, e := range toc.Entries() {
				if got, ok := toc.Entry(e.Name); !ok || got != e {
					t.Fatalf("entry %q is not found", e.Name)
				}
				if e.Name != rafs.SectionBlob && (e.Off > size || e.CompressedSize > size-e.Off) {
					t.Fatalf("entry %+v in a file of %d", e, size)
				}
			}
		}
		for end, steps := size, 0; end >= rafs.TarHeaderSize && size-end+rafs.TarHeaderSize <= uint64(len(tail)); steps++ {
			at := uint64(len(tail)) - (size - end)
			s, err := rafs.ParseTailHeader(tail[at-rafs.TarHeaderSize:at], end)
			formatError(t, err)
			if err != nil {
				break
			}
			if s.Off+s.Size+rafs.TarHeaderSize != end || steps > len(tail) {
				t.Fatalf("section %+v before %d", s, end)
			}
			end = s.Off
		}
	})
}

// tarHeader makes the header that stands after a section.
func tarHeader(name string, size uint64) []byte {
	h := make([]byte, rafs.TarHeaderSize)
	copy(h, name)
	for i := range 11 {
		h[124+10-i] = '0' + byte(size>>(3*i)&7)
	}
	h[156] = '0'
	copy(h[257:], "ustar  \x00")
	fixChecksum(h)
	return h
}

func fixChecksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	for i := range 6 {
		h[148+5-i] = '0' + byte(sum>>(3*i)&7)
	}
	h[154], h[155] = 0, ' '
}

// tocTail makes a ToC with its tar header.
func tocTail(entries ...rafs.TOCEntry) []byte {
	var out []byte
	for _, e := range entries {
		b := make([]byte, rafs.TOCEntrySize)
		b[0] = map[rafs.Compressor]byte{rafs.CompressorNone: rafs.TOCFlagNone, rafs.CompressorZstd: rafs.TOCFlagZstd, rafs.CompressorLZ4: rafs.TOCFlagLZ4}[e.Compressor]
		copy(b[rafs.TOCNameAt:], e.Name)
		copy(b[rafs.TOCDigestAt:], e.Digest[:])
		binary.LittleEndian.PutUint64(b[rafs.TOCCompressedOffAt:], e.Off)
		binary.LittleEndian.PutUint64(b[rafs.TOCCompressedSizeAt:], e.CompressedSize)
		binary.LittleEndian.PutUint64(b[rafs.TOCUncompressedAt:], e.UncompressedSize)
		out = append(out, b...)
	}
	return append(out, tarHeader(rafs.SectionTOC, uint64(len(out)))...)
}
