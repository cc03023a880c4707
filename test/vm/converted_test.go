package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testregistry"
	"vrafs/internal/testtree"
	"vrafs/oci"
)

// TestGuestSeesAConvertedImage: an ordinary image is converted into a registry; a guest
// reads it from there over virtio-fs and sees the tree that umoci unpacks from the
// original.
func TestGuestSeesAConvertedImage(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.Registry, testenv.ImageTools)
	im, s := testoci.Nginx(t), testregistry.Start(t, testregistry.Options{})
	src, err := oci.Parse(im.Reference())
	succeed(t, err)
	dst, err := oci.Parse(s.Host + "/library/image:nydus")
	succeed(t, err)
	_, err = oci.Convert(t.Context(), src, dst, oci.ConvertOptions{Recipe: oci.DefaultRecipe()})
	succeed(t, err)
	found, err := oci.Resolve(t.Context(), dst, oci.Options{Want: oci.WantNydus})
	succeed(t, err)
	defer found.Close()
	var boot, manifest bytes.Buffer
	succeed(t, found.Bootstrap(t.Context(), &boot))
	path := filepath.Join(t.TempDir(), "image.boot")
	succeed(t, os.WriteFile(path, boot.Bytes(), 0o600))
	entries, err := testtree.Scan(im.Tree, testtree.ScanOptions{})
	succeed(t, err)
	succeed(t, testtree.WriteManifest(&manifest, entries))

	backend := map[string]any{"scheme": "http", "host": s.Host, "repo": "library/image"}
	d := startDaemon(t, DaemonOptions{Bootstrap: path, Backend: map[string]any{"type": "registry", "config": backend}})
	share := &share{tag: "converted", tree: im.Tree, manifest: manifest.Bytes(), device: Filesystem{Socket: d.Socket, Queues: 4, Gone: d.Gone()}}
	m := bootWith(t, Series[len(Series)-1], Options{}, share)
	share.mount(t, m)
	share.compare(t, m)
	unmount(t, m, share.dir())
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
