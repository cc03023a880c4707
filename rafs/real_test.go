package rafs_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/codec"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// Real images made by the reference builder (section 10 of the format's
// description).
const (
	realV5SHA256  = "v5-sha256-none.boot"
	realV5BLAKE3  = "v5-blake3.boot"
	realV5Blob    = "7334a2594e133cf8ae364189c2276b090fc490c627bcc3fb1077f0419a538e00"
	realV6        = "v6-blake3-zstd.boot"
	realV6Blob    = "be7d77eeb719f70884758d1aa800ed0fb09d701aaec469964e9d54325f0d5fef"
	realObsolete  = "v5-obsolete-layout.boot"
	realV5Listing = "v5-sha256-none.md5"
)

func readReal(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Testdata(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openReal(t testing.TB, name string) *rafs.Image {
	t.Helper()
	im, err := rafs.Open(readReal(t, name), rafs.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// A listed is one entry of a walk.
type listed struct {
	path  string
	inode rafs.Inode
}

// walk lists an image depth first, directories before their children.
func walk(t testing.TB, im *rafs.Image) []listed {
	t.Helper()
	var list []listed
	var visit func(p string, ino rafs.Ino)
	visit = func(p string, ino rafs.Ino) {
		n, err := im.Inode(ino)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		list = append(list, listed{p, n})
		if !n.IsDir() {
			return
		}
		cur, err := n.Dir(0)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for i := 0; ; i++ {
			var d rafs.Dirent
			ok, err := cur.Next(&d)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if !ok {
				break
			}
			if got, err := n.Lookup(d.Name); err != nil || got != d.Ino {
				t.Errorf("%s: lookup %q = %d, %v; readdir says %d", p, d.Name, got, err, d.Ino)
			}
			if i >= 2 {
				visit(path.Join(p, string(d.Name)), d.Ino)
			}
		}
	}
	visit("/", im.Root())
	return list
}

// content assembles a file from its chunks, verifying each.
func content(t *testing.T, im *rafs.Image, n *rafs.Inode, chunk func(rafs.Span) []byte) []byte {
	t.Helper()
	spans, err := n.AppendSpans(nil, 0, n.Size())
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, s := range spans {
		out = append(out, chunk(s)...)
	}
	return out
}

func TestRealV5(t *testing.T) {
	blob := readReal(t, realV5Blob)
	sums, links := readListing(t)
	for _, name := range []string{realV5SHA256, realV5BLAKE3} {
		t.Run(name, func(t *testing.T) {
			im := openReal(t, name)
			if got := im.Blobs()[0].ID; got != realV5Blob {
				t.Errorf("blob id %s", got)
			}
			var dec codec.Decoder
			seen := map[rafs.ChunkIndex]bool{}
			read := func(s rafs.Span) []byte {
				c, err := im.ChunkAt(s.Ref)
				if err != nil {
					t.Fatal(err)
				}
				stored := blob[c.CompressedOff:][:c.CompressedSize]
				plain := make([]byte, c.Size)
				comp := im.Blobs()[c.Blob].Compressor
				if c.Flags&rafs.ChunkCompressed == 0 {
					comp = rafs.CompressorNone
				}
				if err := dec.Decompress(plain, stored, comp); err != nil {
					t.Fatal(err)
				}
				if got := codec.Sum(im.Digester(), plain); got != c.Digest {
					t.Errorf("chunk %d: digest %v, want %v", c.Index, got, c.Digest)
				}
				seen[c.Index] = true
				return plain[s.Off-c.Off:][:s.Len]
			}
			files, targets := 0, 0
			for _, e := range walk(t, im) {
				if err := im.VerifyInode(e.inode.Ino()); err != nil {
					t.Errorf("%s: %v", e.path, err)
				}
				switch {
				case e.inode.IsRegular():
					sum := md5.Sum(content(t, im, &e.inode, read))
					if got := hex.EncodeToString(sum[:]); got != sums[e.path] {
						t.Errorf("%s: md5 %s, want %q", e.path, got, sums[e.path])
					}
					files++
				case e.inode.IsSymlink():
					target, err := e.inode.Symlink()
					if err != nil || string(target) != links[e.path] {
						t.Errorf("%s: target %q, %v, want %q", e.path, target, err, links[e.path])
					}
					targets++
				}
			}
			if files != len(sums) || targets != len(links) {
				t.Errorf("%d files, %d symlinks; want %d, %d", files, targets, len(sums), len(links))
			}
			if got := len(seen); got != 23 || uint32(got) != im.Blobs()[0].ChunkCount {
				t.Errorf("%d distinct chunks, want 23", got)
			}
			checkClean(t, im, 54)
		})
	}
}

func checkClean(t *testing.T, im *rafs.Image, names uint64) {
	t.Helper()
	r, err := im.Check(t.Context(), rafs.CheckOptions{})
	if err != nil {
		for _, p := range r.Problems {
			t.Errorf("%q inode %d: %v", p.Path, p.Ino, p.Err)
		}
	}
	if r.Names != names || r.Names != im.NameCount() {
		t.Errorf("check saw %d names, want %d", r.Names, names)
	}
	if im.Version() == rafs.V5 && r.Digests != names {
		t.Errorf("check verified %d digests, want %d", r.Digests, names)
	}
}

func TestRealV6(t *testing.T) {
	im := openReal(t, realV6)
	file := readReal(t, realV6Blob)
	b := &im.Blobs()[0]
	if b.ID != realV6Blob || b.Compressor != rafs.CompressorZstd || b.Digester != rafs.DigesterBLAKE3 {
		t.Errorf("blob %s %v %v", b.ID, b.Compressor, b.Digester)
	}
	toc, err := rafs.ParseTOC(file[len(file)-rafs.TOCTailSize:], uint64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := toc.Verify(b); err != nil {
		t.Error(err)
	}
	if exact, err := rafs.ParseTOC(file[len(file)-int(b.TOCSize):], uint64(len(file))); err != nil || exact.Digest() != toc.Digest() {
		t.Errorf("ToC by its exact size: %v", err)
	}
	var dec codec.Decoder
	section := func(name string) []byte {
		e, ok := toc.Entry(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		plain := make([]byte, e.UncompressedSize)
		if err := dec.Decompress(plain, file[e.Off:][:e.CompressedSize], e.Compressor); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return plain
	}
	header, digests := section(rafs.SectionMetaHeader), section(rafs.SectionDigest)
	array := make([]byte, b.MetaUncompressedSize)
	if err := dec.Decompress(array, file[b.MetaOff:][:b.MetaCompressedSize], b.MetaCompressor); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{rafs.SectionMeta: array, rafs.SectionMetaHeader: header, rafs.SectionDigest: digests} {
		e, _ := toc.Entry(name)
		if got := codec.Sum(rafs.DigesterSHA256, data); got != e.Digest {
			t.Errorf("%s: digest %v, want %v", name, got, e.Digest)
		}
	}
	meta, err := rafs.ParseBlobMeta(b, header, array)
	if err != nil {
		t.Fatal(err)
	}
	table, err := im.BuildIndex(0, make([]byte, im.IndexBytes(0)))
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	read := func(s rafs.Span) []byte {
		c, err := meta.Chunk(s.Index)
		if err != nil {
			t.Fatal(err)
		}
		full, ok := table.Chunk(s.Index)
		if !ok {
			t.Fatalf("chunk %d is not in the chunk table", s.Index)
		}
		if c.Off != full.Off || c.Size != full.Size || c.CompressedOff != full.CompressedOff || c.CompressedSize != full.CompressedSize {
			t.Errorf("chunk info %+v, chunk table %+v", c, full)
		}
		if got := rafs.Digest(digests[32*s.Index:]); got != full.Digest {
			t.Errorf("chunk %d: blob.digest %v, chunk table %v", s.Index, got, full.Digest)
		}
		if i, ok := meta.Find(s.Off); !ok || i != s.Index {
			t.Errorf("find %#x = %d, %v, want %d", s.Off, i, ok, s.Index)
		}
		plain := make([]byte, c.Size)
		comp := rafs.CompressorNone
		if c.Flags&rafs.ChunkCompressed != 0 {
			comp = b.Compressor
		}
		if err := dec.Decompress(plain, file[c.CompressedOff:][:c.CompressedSize], comp); err != nil {
			t.Fatal(err)
		}
		if got := codec.Sum(b.Digester, plain); got != full.Digest {
			t.Errorf("chunk %d: digest %v, want %v", s.Index, got, full.Digest)
		}
		chunks++
		return plain[s.Off-c.Off:][:s.Len]
	}
	files := 0
	for _, e := range walk(t, im) {
		if e.inode.IsRegular() {
			if got := uint64(len(content(t, im, &e.inode, read))); got != e.inode.Size() {
				t.Errorf("%s: %d bytes of %d", e.path, got, e.inode.Size())
			}
			files++
		}
	}
	if files != 2 || chunks != int(meta.Len()) || chunks != int(b.ChunkCount) {
		t.Errorf("%d files, %d chunks of %d", files, chunks, b.ChunkCount)
	}
	checkClean(t, im, im.NameCount())
}

// TestRealTail walks a blob's sections by their tar headers from the end.
func TestRealTail(t *testing.T) {
	file := readReal(t, realV6Blob)
	var names []string
	for end := uint64(len(file)); end > 0; {
		s, err := rafs.ParseTailHeader(file[end-rafs.TarHeaderSize:end], end)
		if err != nil {
			t.Fatal(err)
		}
		names, end = append(names, s.Name), s.Off
	}
	want := []string{rafs.SectionTOC, rafs.SectionDigest, rafs.SectionMeta, rafs.SectionBlob}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestObsoleteLayoutIsRefused(t *testing.T) {
	_, err := rafs.Open(readReal(t, realObsolete), rafs.Options{})
	var fe *rafs.FormatError
	if !errors.Is(err, rafs.ErrUnsupported) || !errors.As(err, &fe) || !strings.Contains(err.Error(), "pre-release RAFS v5") {
		t.Errorf("got %v", err)
	}
}

// readListing reads the published md5 sums of all files, and the targets of all
// symlinks from the tree before them.
func readListing(t testing.TB) (sums, links map[string]string) {
	t.Helper()
	data := readReal(t, realV5Listing)
	type node struct {
		Type, Name, Target string
		Contents           []node
	}
	var tree []node
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	sums, links = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(data[dec.InputOffset():])) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			sums[name] = sum
		}
	}
	var visit func(dir string, n node)
	visit = func(dir string, n node) {
		p := path.Join(dir, n.Name)
		if n.Type == "link" {
			links[p] = n.Target
		}
		for _, c := range n.Contents {
			visit(p, c)
		}
	}
	visit("/", tree[0])
	if len(sums) == 0 || len(links) == 0 {
		t.Fatalf("%d sums, %d links", len(sums), len(links))
	}
	return sums, links
}

// TestCheckStops sees that a cancelled check says so.
func TestCheckStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	im := openReal(t, realV6)
	if _, err := im.Check(ctx, rafs.CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
