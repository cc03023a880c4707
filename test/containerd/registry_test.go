package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// TestOrdinaryImageIsServedByItsConversion: the snapshotter is asked for the layers of the
// ordinary image, as CRI does, and finds the conversion: in the index that has both, or as
// what refers to the image. It fetches no layer, and shows the tree that umoci unpacks.
func TestOrdinaryImageIsServedByItsConversion(t *testing.T) {
	testenv.Need(t, testenv.ImageTools)
	for name, option := range map[string]string{"index": "--merge-platform", "referrer": "--with-referrer"} {
		t.Run(name, func(t *testing.T) {
			s := raise(t, "registry without TLS", func(s *stage) string {
				config := fmt.Sprintf(snapshotterConfig, s.dir, "dedicated", program(t, "nydus-image"), "restart")
				return config + "[experimental]\nenable_" + name + "_detect = true\n"
			})
			im := testoci.Nginx(t)
			const ref = registryAddress + "/nginx:plain"
			dst := registryAddress + "/nginx:nydus"
			if name == "index" {
				dst = ref
			}
			output(t, exec.Command(program(t, "vrafs"), "push", "-q", im.Reference(), ref))
			var plain struct {
				Manifest string
				Layers   []struct{ Digest string }
			}
			must(t, json.Unmarshal([]byte(output(t, exec.Command(program(t, "vrafs"), "inspect", "--json", ref))), &plain))
			output(t, exec.Command(program(t, "vrafs"), "convert", "--no-cache", "-q", option, ref, dst))
			args := []string{"-address", snapshotterSock, "-ref", ref, "-manifest", plain.Manifest}
			for _, l := range plain.Layers {
				args = append(args, l.Digest)
			}
			var mounts []struct {
				Type    string
				Options []string
			}
			must(t, json.Unmarshal([]byte(output(t, exec.Command(testenv.Peer("prepare"), args...))), &mounts))
			if len(mounts) != 1 || mounts[0].Type != "overlay" {
				t.Fatalf("mounts %+v", mounts)
			}
			dir := s.path("rootfs")
			must(t, os.Mkdir(dir, 0o755), unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, strings.Join(mounts[0].Options, ",")))
			got, err := testtree.Scan(dir, testtree.ScanOptions{})
			must(t, err, unix.Unmount(dir, 0))
			im.Compare(t, got)
		})
	}
}
