package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testregistry"
	"vrafs/internal/testtree"
)

// realImages are all that conversion is shown on; those of the long run take a minute.
var realImages = []struct {
	name string
	make func(testing.TB) *testoci.Image
	soak bool
	args []string // of convert
}{
	{"nginx", testoci.Nginx, false, []string{"--merge-platform"}},
	{"odd", testoci.Odd, false, nil},
	{"python", testoci.Python, true, []string{"--compressor", "lz4_block", "--batch-size", "0x80000"}},
	{"jvm", testoci.JVM, true, []string{"--oci-ref"}},
}

// TestImagesAreConvertedMountedAndConvertedBack: from a layout into a registry, where
// check finds nothing wrong, through /dev/fuse, and back into a layout. Both times the
// tree is the one that umoci unpacks from the original.
func TestImagesAreConvertedMountedAndConvertedBack(t *testing.T) {
	testenv.Need(t, needMounts...)
	testenv.Long(t)
	for _, tt := range realImages {
		if tt.soak && !testenv.Soak() {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			im, u := tt.make(t), newUser(t)
			s := testregistry.Start(t, testregistry.Options{})
			ref := s.Host + "/" + repo + ":nydus"
			u.vrafs(append([]string{"convert", "--no-cache", "-q", im.Reference(), ref}, tt.args...)...)
			if out := u.vrafs("check", "--source", im.Reference(), ref); !strings.Contains(out, "of the merged tree are the same") {
				t.Errorf("check said %q", out)
			}
			dir, _ := u.mount(ref)
			got, err := testtree.Scan(dir, testtree.ScanOptions{})
			must(t, err)
			if got[0].Mode != unix.S_IFDIR|0o755 { // as nydusd shows every root
				t.Errorf("mode of the root %o", got[0].Mode)
			}
			var root unix.Stat_t
			must(t, unix.Lstat(im.Tree, &root))
			got[0].Mode = root.Mode
			im.Compare(t, got)
			u.umount(dir)
			back := filepath.Join(t.TempDir(), "back")
			u.vrafs("convert", "--no-cache", "--to", "oci", "-q", ref, "oci:"+back+":back")
			got, err = testtree.Scan(testoci.UnpackLayout(t, back+":back"), testtree.ScanOptions{})
			must(t, err)
			im.Compare(t, got)
		})
	}
}

// TestPulledImageIsMountedFromItsLayout: an image that was pulled into a layout, and a name
// for it, is enough.
func TestPulledImageIsMountedFromItsLayout(t *testing.T) {
	testenv.Need(t, needMounts...)
	testenv.Long(t)
	im, u := testoci.Nginx(t), newUser(t)
	s := testregistry.Start(t, testregistry.Options{})
	ref := s.Host + "/" + repo + ":nydus"
	u.vrafs("push", "-q", "oci:"+u.converted(im), ref)
	layout := filepath.Join(t.TempDir(), "pulled")
	u.vrafs("pull", "-q", ref, "oci:"+layout+":here")
	dir, _ := u.mount("oci:" + layout + ":here")
	text, err := os.ReadFile(filepath.Join(dir, "app/index.html"))
	if err != nil || string(text) != "ready\n" {
		t.Errorf("got %q, %v", text, err)
	}
	u.umount(dir)
}
