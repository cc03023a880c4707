package images

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
)

// TestConversionIsUsedByTheNameOfItsImage: with --with-referrer, the name of the OCI image
// is enough to check and to mount the conversion, in a registry with the referrers API and
// in one without.
func TestConversionIsUsedByTheNameOfItsImage(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Registry)
	const text = "found by its image\n"
	src := oneFile(t, text)
	api := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(api.Close)
	for name, host := range map[string]string{
		"api": strings.TrimPrefix(api.URL, "http://"),
		"tag": testregistry.Start(t, testregistry.Options{}).Host,
	} {
		t.Run(name, func(t *testing.T) {
			u, image, nydus := newUser(t), host+"/"+repo+":1", host+"/"+repo+":nydus"
			u.vrafs("push", "-q", src, image)
			u.vrafs("convert", "-q", "--no-cache", image, nydus)
			u.refused([]string{"mount", "--state-dir", u.state, "--cache-dir", u.cache, image, t.TempDir()}, image, "no Nydus image")
			u.vrafs("convert", "-q", "--no-cache", "--with-referrer", image, nydus)
			if out := u.vrafs("check", image); !strings.Contains(out, "1 entries of 1 layers") {
				t.Errorf("check said %q", out)
			}
			dir, socket := u.mount(image)
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != text {
				t.Errorf("mounted file: %q, %v", got, err)
			}
			u.umount(dir)
			u.leftNothing(dir, socket)
			// Nodes without Nydus pull what they always did.
			if out := u.vrafs("inspect", image); !strings.Contains(out, "OCI image") {
				t.Errorf("inspect said %q", out)
			}
		})
	}
}
