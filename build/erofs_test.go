package build_test

import (
	"os"
	"os/exec"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
)

// checkKernel compares what the kernel's EROFS shows with the source, and has
// erofs-utils check the image.
func checkKernel(t *testing.T, tree string, o build.Options) {
	t.Helper()
	boot, devices := testimage.FilledCache(t, tree, o)
	want, err := testtree.Scan(tree, testtree.ScanOptions{})
	steps(t, err)
	got, err := testtree.Scan(testimage.MountErofs(t, boot, devices), testtree.ScanOptions{})
	steps(t, err)
	testimage.Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
	if testenv.Missing(testenv.FsckErofs) != "" && !testenv.Required(testenv.FsckErofs) {
		return
	}
	args := []string{}
	for _, d := range devices {
		args = append(args, "--device="+d)
	}
	if out, err := exec.Command(testenv.Program("fsck.erofs"), append(args, boot)...).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}

func TestKernelErofsShowsTheSource(t *testing.T) {
	tree := smallTree(t)
	for _, o := range []build.Options{{}, {ChunkSize: 4096}, {ChunkSize: 16 << 20}} {
		checkKernel(t, tree, o)
	}
}

func TestKernelErofsShowsTheLargeTree(t *testing.T) {
	testenv.Long(t)
	checkKernel(t, testtree.Make(t, testtree.Large(7)), build.Options{})
}

func TestKernelErofsShowsDebian(t *testing.T) {
	testenv.Long(t)
	checkKernel(t, testtree.DebianRoot(t), build.Options{})
}

func TestLargeTreeReadsBackIdentical(t *testing.T) {
	testenv.Long(t)
	tree := testtree.Make(t, testtree.Large(8))
	want, err := testtree.Scan(tree, testtree.ScanOptions{})
	steps(t, err)
	for _, v := range variants() {
		if v.digester != 0 {
			continue // both are covered by the small tree
		}
		t.Run(v.String(), func(t *testing.T) {
			im := testimage.Make(t, testimage.Options{Source: tree, Version: v.version, Compressor: v.compressor})
			testimage.Compare(t, testimage.Expected(want, v.version), im.Scan(t), testtree.DiffOptions{SkipRoot: true})
			steps(t, os.RemoveAll(im.BlobDir))
		})
	}
}
