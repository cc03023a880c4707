package testoci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// tag names the one image of each layout.
const tag = "latest"

// An Image is an OCI layout with one image.
type Image struct {
	Name   string // for example python
	Layout string // directory of the layout
	Tag    string // of the image in it
	Tree   string // directory that umoci unpacked it to

	// untimed are the directories, other than the root, of whose times layers say
	// nothing, so that umoci's are those of its work.
	untimed []string
}

// Compare reports how a tree differs from the one that umoci unpacked.
func (i *Image) Compare(t testing.TB, got []testtree.Entry) {
	t.Helper()
	want, err := testtree.Scan(i.Tree, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lines := testtree.Diff(i.timeless(want), i.timeless(got), testtree.DiffOptions{})
	for _, l := range lines[:min(len(lines), 20)] {
		t.Error(l)
	}
	if len(lines) > 20 {
		t.Errorf("and %d more differences", len(lines)-20)
	}
}

func (i *Image) timeless(entries []testtree.Entry) []testtree.Entry {
	entries = slices.Clone(entries)
	for k := range entries {
		if e := &entries[k]; e.Path == "" || slices.Contains(i.untimed, e.Path) {
			e.Sec, e.Nsec = 0, 0
		}
	}
	return entries
}

// Reference names the image as skopeo and umoci's relatives do: oci:DIR:TAG.
func (i *Image) Reference() string { return "oci:" + i.Layout + ":" + i.Tag }

// Blob is the file of a digest in the layout.
func (i *Image) Blob(digest string) string {
	return filepath.Join(i.Layout, "blobs", filepath.FromSlash(strings.Replace(digest, ":", "/", 1)))
}

// A Layer is one layer as the manifest describes it.
type Layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Layers are the image's layers, the lowest first.
func (i *Image) Layers(t testing.TB) []Layer {
	t.Helper()
	var index, manifest struct{ Manifests, Layers []Layer }
	read(t, filepath.Join(i.Layout, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%s: %d images", i.Layout, len(index.Manifests))
	}
	read(t, i.Blob(index.Manifests[0].Digest), &manifest)
	return manifest.Layers
}

func read(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Copy copies the image with skopeo: to is any place that skopeo knows, args are
// options of skopeo copy.
func (i *Image) Copy(t testing.TB, to string, args ...string) {
	t.Helper()
	testenv.Need(t, testenv.ImageTools)
	args = append([]string{"copy", "--quiet", "--insecure-policy"}, args...)
	if err := run(exec.Command("skopeo", append(args, i.Reference(), to)...)); err != nil {
		t.Fatal(err)
	}
}

// kept gives the image name, which fill puts into the layout at dir/oci. version
// counts up when fill does something else.
func kept(t testing.TB, name, version string, fill func(dir string) error) *Image {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.ImageTools)
	dir, err := testenv.Kept("oci-"+name+"-"+version, func(dir string) error {
		if err := umoci("init", "--layout", filepath.Join(dir, "oci")); err != nil {
			return err
		}
		if err := fill(dir); err != nil {
			return err
		}
		if err := umoci("gc", "--layout", filepath.Join(dir, "oci")); err != nil {
			return err
		}
		return umoci("raw", "unpack", "--image", layoutTag(dir), filepath.Join(dir, "tree"))
	})
	if err != nil {
		t.Fatalf("image %s: %v", name, err)
	}
	return &Image{Name: name, Layout: filepath.Join(dir, "oci"), Tag: tag, Tree: filepath.Join(dir, "tree")}
}

// layoutTag names the image that is being made in dir, as umoci wants it.
func layoutTag(dir string) string { return filepath.Join(dir, "oci") + ":" + tag }

func umoci(args ...string) error { return run(exec.Command("umoci", args...)) }

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}

// Unpack stacks tars in a layout, the lowest first, and gives the directory that umoci
// unpacks it to.
func Unpack(t testing.TB, tars ...string) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.ImageTools)
	dir := t.TempDir()
	steps := [][]string{{"init", "--layout", filepath.Join(dir, "oci")}, {"new", "--image", layoutTag(dir)}}
	for _, tar := range tars {
		steps = append(steps, []string{"raw", "add-layer", "--image", layoutTag(dir), tar})
	}
	for _, args := range steps {
		if err := umoci(args...); err != nil {
			t.Fatal(err)
		}
	}
	return UnpackLayout(t, layoutTag(dir))
}

// UnpackLayout gives the directory that umoci unpacks an image to: DIR:TAG of a layout.
func UnpackLayout(t testing.TB, image string) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.ImageTools)
	tree := filepath.Join(t.TempDir(), "tree")
	if err := umoci("raw", "unpack", "--image", image, tree); err != nil {
		t.Fatal(err)
	}
	return tree
}
