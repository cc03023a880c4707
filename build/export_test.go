package build_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// exportDisk exports im to a file.
func exportDisk(t *testing.T, im build.Image, o build.ExportOptions) (*os.File, *build.ExportResult) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.disk"))
	steps(t, err)
	t.Cleanup(func() { f.Close() })
	r, err := build.ExportBlock(t.Context(), im, f, o)
	steps(t, err)
	return f, r
}

// checkExported compares a mounted disk of an image with the image's source.
func checkExported(t *testing.T, o testimage.Options) {
	t.Helper()
	im := testimage.Make(t, o)
	f, _ := exportDisk(t, made(t, im), build.ExportOptions{})
	want, err := testtree.Scan(im.Tree, testtree.ScanOptions{})
	steps(t, err)
	got, err := testtree.Scan(testimage.MountErofs(t, f.Name(), nil), testtree.ScanOptions{})
	steps(t, err)
	testimage.Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
}

func TestExportedDiskMountsAndComparesIdentical(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Erofs)
	tree := testtree.Make(t, quickTree(21))
	for _, name := range []string{"v6 none", "v6 zstd inline", "v6 zstd small chunks", "v6 encrypted batch"} {
		t.Run(name, func(t *testing.T) {
			o := imageKinds[name]
			o.Source = tree
			checkExported(t, o)
		})
	}
}

func TestExportedDiskPassesFsckErofs(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FsckErofs)
	im := testimage.Make(t, testimage.Options{Compressor: rafs.CompressorZstd, Tree: quickTree(22)})
	f, _ := exportDisk(t, made(t, im), build.ExportOptions{})
	// fsck.erofs 1.5 wants one --device per blob; the blob is a range of the disk.
	open := made(t, im)
	img, err := rafs.Open(open.Data, rafs.Options{Name: open.Name})
	steps(t, err)
	b := img.Blobs()[0]
	device := filepath.Join(t.TempDir(), "device")
	data := make([]byte, uint64(b.Blocks)*4096)
	if _, err := f.ReadAt(data, int64(b.MappedBlk)*4096); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(device, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(testenv.Program("fsck.erofs"), "--device="+device, f.Name()).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}

func TestExportRefusesWhatHasNoBlockForm(t *testing.T) {
	testenv.Need(t, testenv.Root)
	im := testimage.Make(t, testimage.Options{Version: rafs.V5, Source: smallSource(t)})
	_, err := build.ExportBlock(t.Context(), made(t, im), nil, build.ExportOptions{})
	if want := "unsupported image: only v6 images can be block devices, this one is v5"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// plainVerity is the hash tree by its definition: level by level in memory, no
// salt, 4096-byte hash blocks, the top level first.
func plainVerity(data []byte, size int) (tree []byte, root [32]byte) {
	var levels [][]byte
	for {
		var sums []byte
		for i := 0; i < len(data); i += size {
			s := sha256.Sum256(data[i:][:size])
			sums = append(sums, s[:]...)
		}
		if len(sums) == 32 {
			root = [32]byte(sums)
			break
		}
		sums = append(sums, make([]byte, -len(sums)&4095)...)
		levels = append(levels, sums)
		data, size = sums, 4096
	}
	for i := len(levels) - 1; i >= 0; i-- {
		tree = append(tree, levels[i]...)
	}
	return tree, root
}

func TestVerityTreeIsTheOneOfItsDefinition(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	large := make([]byte, 1<<20) // more hash blocks than one level holds
	for i := range large {
		large[i] = byte(i >> 12)
	}
	steps(t, os.WriteFile(filepath.Join(dir, "large"), large, 0o644))
	im := testimage.Make(t, testimage.Options{Source: dir})
	f, r := exportDisk(t, made(t, im), build.ExportOptions{Verity: true, Threads: 3})
	whole, err := os.ReadFile(f.Name())
	steps(t, err)
	tree, root := plainVerity(whole[:r.DataBlocks*uint64(r.DataBlockSize)], int(r.DataBlockSize))
	if root != r.RootHash {
		t.Errorf("root hash %x, want %x", r.RootHash, root)
	}
	if !bytes.Equal(whole[r.HashOffset:], tree) {
		t.Errorf("hash tree of %d bytes differs from the plain one of %d", len(whole)-int(r.HashOffset), len(tree))
	}
	if p := testenv.Program("veritysetup"); p != "" {
		out, err := exec.Command(p, "verify", "--no-superblock", "--format=1", "-s", "-", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096",
			fmt.Sprintf("--data-blocks=%d", r.DataBlocks), fmt.Sprintf("--hash-offset=%d", r.HashOffset), f.Name(), f.Name(), fmt.Sprintf("%x", r.RootHash)).CombinedOutput()
		if err != nil {
			t.Errorf("veritysetup: %v\n%s", err, out)
		}
	}
}
