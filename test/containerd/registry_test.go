package containerd

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testtree"
)

// TestConvertedImageRunsFromTheRegistryAlone: an ordinary image is converted into the
// registry, pulled lazily, and its program runs; what the daemon mounts for containers
// is the tree that umoci unpacks from the original.
func TestConvertedImageRunsFromTheRegistryAlone(t *testing.T) {
	testenv.Need(t, testenv.ImageTools)
	s := newStage(t, "dedicated", "restart", "registry")
	im := testoci.Nginx(t)
	const ref = registryAddress + "/nginx:nydus"
	output(t, exec.Command(program(t, "vrafs"), "convert", "--no-cache", "-q", im.Reference(), ref))
	output(t, s.withPath(testenv.Program("ctr-remote"), "images", "rpull", "--plain-http", "--snapshotter", "nydus", ref))
	run := s.withPath(testenv.Program("ctr"), "run", "--rm", "--snapshotter", "nydus", ref, "once", "cat", "/app/index.html")
	if got := output(t, run); got != "ready\n" {
		t.Errorf("the container said %q", got)
	}
	got, err := testtree.Scan(s.daemon().Place, testtree.ScanOptions{})
	must(t, err)
	if got[0].Mode != unix.S_IFDIR|0o755 { // as nydusd shows every root
		t.Errorf("mode of the root %o", got[0].Mode)
	}
	im.Compare(t, got)
}
