package build_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"vrafs/build"
	"vrafs/internal/codec"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// section cuts what e describes out of a blob, decompressed.
func section(t *testing.T, blob []byte, e rafs.TOCEntry) []byte {
	t.Helper()
	out := make([]byte, e.UncompressedSize)
	var dec codec.Decoder
	steps(t, dec.Decompress(out, blob[e.Off:][:e.CompressedSize], e.Compressor))
	return out
}

func parseTOC(t *testing.T, blob []byte) *rafs.TOC {
	t.Helper()
	toc, err := rafs.ParseTOC(blob[max(0, len(blob)-rafs.TOCTailSize):], uint64(len(blob)))
	steps(t, err)
	return toc
}

func TestTableOfContentsDescribesTheBlob(t *testing.T) {
	tree := smallTree(t)
	for _, o := range []build.Options{
		{InlineMeta: true, BlobTOC: true, Compressor: rafs.CompressorZstd},
		{BlobTOC: true, Compressor: rafs.CompressorLZ4},
	} {
		out := buildInto(t, build.Dir(tree), o)
		blob := out.blob.Bytes()
		toc := parseTOC(t, blob)
		digests := toc.Entries()[3]
		for _, e := range toc.Entries() {
			content := section(t, blob, e)
			if e.Name == rafs.SectionBlob {
				content = blob[:e.CompressedSize+rafs.TarHeaderSize] // with its header (4.8)
			}
			if sha256.Sum256(content) != [32]byte(e.Digest) {
				t.Errorf("%s: the digest is of other bytes", e.Name)
			}
		}
		// The id covers everything but the digest array (4.10).
		h := sha256.New()
		h.Write(blob[:digests.Off])
		h.Write(blob[digests.Off+digests.CompressedSize:])
		if id := hex.EncodeToString(h.Sum(nil)); digests.Name != rafs.SectionDigest || id != out.res.BlobID {
			t.Errorf("id %s, want %s", out.res.BlobID, id)
		}
		if o.InlineMeta {
			continue
		}
		im, err := rafs.Open(out.boot.Bytes(), rafs.Options{})
		steps(t, err)
		b := &im.Blobs()[0]
		if b.TOCSize != uint32(toc.Size()) || b.TOCDigest != toc.Digest() || b.CompressedSize != uint64(len(blob)) {
			t.Errorf("the blob table says ToC of %d bytes, blob of %d; they have %d and %d", b.TOCSize, b.CompressedSize, toc.Size(), len(blob))
		}
	}
}

func TestBlobWithoutTableIsNamedByItsDigest(t *testing.T) {
	tree := smallTree(t)
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		for _, inline := range []bool{false, true} {
			out := buildInto(t, build.Dir(tree), build.Options{Version: v, InlineMeta: inline, AlignedChunk: true})
			sum := sha256.Sum256(out.blob.Bytes())
			if id := hex.EncodeToString(sum[:]); id != out.res.BlobID || uint64(out.blob.Len()) != out.res.BlobSize {
				t.Errorf("v%d: id %s, %d bytes; want %s, %d", v, out.res.BlobID, out.res.BlobSize, id, out.blob.Len())
			}
		}
	}
}

func TestPublishedImagesServeAsParentAndDictionary(t *testing.T) {
	samples := testenv.Testdata(t)
	dir := t.TempDir()
	entries, err := os.ReadDir(samples)
	steps(t, err)
	for _, e := range entries { // blobs are found by name, beside the new ones
		steps(t, os.Symlink(filepath.Join(samples, e.Name()), filepath.Join(dir, e.Name())))
	}
	upper := t.TempDir()
	steps(t, os.WriteFile(filepath.Join(upper, "added"), []byte("to a published image"), 0o600))
	for _, name := range []string{"v5-sha256-none.boot", "v6-blake3-zstd.boot"} {
		base := readImage(t, filepath.Join(samples, name))
		im, err := rafs.Open(base.Data, rafs.Options{})
		steps(t, err)
		o := build.Options{
			Version: im.Version(), Compressor: im.Compressor(), Digester: im.Digester(), ChunkSize: im.ChunkSize(),
			Repeatable: im.Flags()&rafs.FlagExplicitUIDGID == 0,
		}
		below, err := testimage.Scan(filepath.Join(samples, name), samples)
		steps(t, err)
		o.Parent = base
		boot := filepath.Join(t.TempDir(), "image.boot")
		_, err = build.Build(t.Context(), build.Dir(upper), build.Sink{Bootstrap: boot, BlobDir: dir}, o)
		steps(t, err)
		got, err := testimage.Scan(boot, dir)
		steps(t, err)
		if len(got) != len(below)+1 {
			t.Errorf("%s: %d names on top of %d, want one more", name, len(got), len(below))
		}
		o.Parent, o.ChunkDict = nil, base
		_, err = build.Build(t.Context(), build.Dir(upper), build.Sink{Bootstrap: boot, BlobDir: dir}, o)
		steps(t, err)
	}
}

// A tarStream is a tar with one file of n bytes that repeat only after each 3 GiB.
func tarStream(t *testing.T, n int64) io.Reader {
	t.Helper()
	head := sectionOfTar(t, n)
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(&counterReader{}, n), bytes.NewReader(make([]byte, 1024)))
}

// sectionOfTar is the header of a file of n bytes.
func sectionOfTar(t *testing.T, n int64) []byte {
	t.Helper()
	data := archive(t, fileEntry("file", ""))[:512]
	copy(data[124:], []byte{0x80, 0, 0, 0, byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	copy(data[148:], "        ")
	sum := 0
	for _, c := range data {
		sum += int(c)
	}
	copy(data[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	return data
}

// A counterReader gives bytes that differ from block to block.
type counterReader struct{ n uint32 }

func (c *counterReader) Read(p []byte) (int, error) {
	for i := range p {
		if i%61 == 0 {
			c.n++
		}
		p[i] = byte(c.n >> (i % 4 * 8))
	}
	return len(p), nil
}

func TestMemoryDoesNotGrowWithTheStream(t *testing.T) {
	testenv.Long(t)
	const limit = 64 << 20
	var peak uint64
	o := build.Options{Compressor: rafs.CompressorLZ4, Workers: 2, Progress: func(done, total uint64, what string) {
		peak = max(peak, heapInUse())
	}}
	before := heapInUse()
	_, err := build.Build(t.Context(), build.Stream(build.TypeTar, tarStream(t, 512<<20), "long"),
		build.Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}, o)
	steps(t, err)
	if peak == 0 || peak > before+limit {
		t.Errorf("%d MiB in use at most, %d MiB before; want at most %d MiB more", peak>>20, before>>20, limit>>20)
	}
}

func TestDebianReadsBackIdentical(t *testing.T) {
	testenv.Long(t)
	tree := testtree.DebianRoot(t)
	for _, o := range []testimage.Options{
		{Version: rafs.V6, Compressor: rafs.CompressorZstd, Layout: testimage.InlineTOC},
		{Version: rafs.V5, Compressor: rafs.CompressorLZ4},
	} {
		o.Source = tree
		testimage.Make(t, o).CheckTree(t)
	}
	f, err := os.Open(testtree.DebianTar(t))
	steps(t, err)
	defer f.Close()
	testimage.Compare(t, seconds(scanTarred(t, tree)), seconds(buildStream(t, f, build.TypeTar, build.Options{})), testtree.DiffOptions{SkipRoot: true})
}
