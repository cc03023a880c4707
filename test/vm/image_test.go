package vm

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/teststore"
	"vrafs/internal/testtree"
	"vrafs/rafs"
	"vrafs/test/vm/guestapi"
)

var daemonProgram = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("VRAFSD"); path != "" { // another build, for comparisons
		return path, nil
	}
	path := filepath.Join(binDir, "vrafsd")
	return path, BuildDaemon(context.Background(), path)
})

// startDaemon runs vrafsd until the test ends; its directory is kept and named if
// the test failed.
func startDaemon(t testing.TB, o DaemonOptions) *Daemon {
	t.Helper()
	var err error
	if o.Program, err = daemonProgram(); err != nil {
		t.Fatal(err)
	}
	d, err := StartDaemon(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			d.Keep()
			t.Logf("kept %s%s", d.Dir, d.Tail(20))
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// A variant is a way to build an image.
type variant struct {
	name       string
	version    rafs.Version
	compressor rafs.Compressor
}

// variants in the order of their worth: a short run takes the first three.
var variants = []variant{
	{"v6-zstd", rafs.V6, rafs.CompressorZstd},
	{"v5-lz4", rafs.V5, rafs.CompressorLZ4},
	{"v6-none", rafs.V6, rafs.CompressorNone},
	{"v6-lz4", rafs.V6, rafs.CompressorLZ4},
	{"v5-zstd", rafs.V5, rafs.CompressorZstd},
	{"v5-none", rafs.V5, rafs.CompressorNone},
}

// An image is a tree built in one way, and what a guest should see of it.
type image struct {
	variant
	*testimage.Image
	manifest []byte
}

func makeImage(t testing.TB, v variant, tree string) *image {
	t.Helper()
	im := testimage.Make(t, testimage.Options{Version: v.version, Compressor: v.compressor, Source: tree})
	entries, err := testtree.Scan(tree, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := testtree.WriteManifest(&b, testimage.Expected(entries, v.version)); err != nil {
		t.Fatal(err)
	}
	return &image{v, im, b.Bytes()}
}

// serve starts a daemon with an empty cache for the image.
func (im *image) serve(t testing.TB) *share {
	t.Helper()
	return im.share(im.name, startDaemon(t, DaemonOptions{Bootstrap: im.Bootstrap, BlobDir: im.BlobDir}))
}

// serveFrom is serve with blobs that are read out of a store.
func (im *image) serveFrom(t testing.TB, kind teststore.Kind) *share {
	t.Helper()
	s := kind.StartDir(t, im.BlobDir)
	d := startDaemon(t, DaemonOptions{Bootstrap: im.Bootstrap, Backend: map[string]any{"type": s.Type, "config": s.Section}})
	return im.share(strings.ReplaceAll(kind.Name, " ", "-"), d)
}

func (im *image) share(tag string, d *Daemon) *share {
	return &share{
		tag: tag, tree: im.Tree, manifest: im.manifest,
		device: Filesystem{Socket: d.Socket, Queues: 4, Gone: d.Gone()},
	}
}

// TestGuestSeesTheImage is the first promise: whatever the kernel, the version, the
// compressor and the back end, the tree in the guest is the tree the image was made from.
func TestGuestSeesTheImage(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(1))
	addProgram(t, tree)
	chosen := variants[:3]
	if testenv.Soak() {
		chosen = variants
	}
	var images []*image
	for _, v := range chosen {
		images = append(images, makeImage(t, v, tree))
	}
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			var shares []*share
			for _, im := range images {
				shares = append(shares, im.serve(t))
			}
			for _, kind := range networks(series) {
				shares = append(shares, images[0].serveFrom(t, kind))
			}
			m := bootWith(t, series, Options{}, shares...)
			for i, s := range shares {
				t.Run(s.tag, func(t *testing.T) {
					if i < len(images) {
						checkShare(t, m, s)
					} else {
						s.checkCold(t, m)
					}
				})
			}
		})
	}
}

// networks are the back ends over HTTP that a guest of the series reads from: all that
// need no name server in the long run, otherwise one, with the newest kernel.
func networks(series string) (kinds []teststore.Kind) {
	for _, k := range teststore.Kinds() {
		one := k.Name == "registry with tokens" && series == Series[len(Series)-1]
		if k.Remote && !k.Names && (one || testenv.Soak()) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// checkShare is everything that is asked of an image of the small tree.
func checkShare(t *testing.T, m *Machine, s *share) {
	s.checkTree(t, m)
	s.checkOverlay(t, m)
	s.checkExec(t, m)
	s.checkMmap(t, m, "sizes/several-chunks", "sizes/zeros-but-one", "sparse/islands", "duplicates/same3", "kinds/one-byte")
	s.checkOffsets(t, m, "sparse/islands", []int64{0, 1<<20 - 1, 2<<20 - 3000, 5 << 20, 5<<20 + 16}, 9000)
	unmount(t, m, s.dir())
	s.mount(t, m)
	s.checkExec(t, m)
	unmount(t, m, s.dir())
}

// checkCold reads everything once, with nothing cached anywhere.
func (s *share) checkCold(t *testing.T, m *Machine) {
	s.mount(t, m)
	s.compare(t, m)
	s.checkExec(t, m)
	unmount(t, m, s.dir())
}

// TestGuestSeesTheLargeTree has more than 20,000 names, one directory with 10,000
// and a sparse file above 4 GiB.
func TestGuestSeesTheLargeTree(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Large(2))
	for i, series := range Series {
		chosen := variants[i : i+1]
		if testenv.Soak() {
			chosen = variants
		}
		for _, v := range chosen {
			im := makeImage(t, v, tree)
			// Reading 4 GiB of hole takes a guest half a minute: one kernel is enough.
			readHuge := testenv.Soak() || i > 0
			t.Run(series+"/"+v.name, func(t *testing.T) { checkLarge(t, series, im.serve(t), readHuge) })
		}
	}
}

func checkLarge(t *testing.T, series string, s *share, readHuge bool) {
	m := bootWith(t, series, Options{MemMB: 768}, s)
	s.mount(t, m)
	all := guestapi.CompareArgs{Path: s.dir(), Manifest: s.manifestFile()}
	if !readHuge {
		all.Skip = []string{hugeFile}
	}
	compare(t, m, all)
	s.checkOffsets(t, m, hugeFile, hugeOffsets(), 20_000)
	if testenv.Soak() {
		all.ReadHoles = true
		compare(t, m, all)
		s.checkOverlay(t, m)
	}
	unmount(t, m, s.dir())
}

// hugeFile is the sparse file of the large tree.
const hugeFile = "sparse/huge"

// hugeOffsets are places in the file above 4 GiB: around its data, the 32-bit
// borders, inside holes, and at its end.
func hugeOffsets() []int64 {
	const gib = int64(1) << 30
	const size = 4*gib + 3<<20 + 99
	offsets := []int64{0, 1, 4095, 4096, gib, gib + 777, 2*gib - 1, 2 * gib, 3 * gib, 4*gib - 2500, 4*gib - 1, 4 * gib, 4*gib + 1<<20, size - 20_000, size - 1, size, size + 5}
	for off := int64(12345); off < size; off += 61 << 20 {
		offsets = append(offsets, off)
	}
	return offsets
}
