package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testoci"
	"vrafs/internal/testregistry"
	"vrafs/internal/testtree"
	"vrafs/oci/ocitest"
	"vrafs/rafs"
)

// defaults are options as the command has them, without a memory of its own.
func defaults() ConvertOptions { return ConvertOptions{Recipe: DefaultRecipe()} }

func convert(t testing.TB, src, dst Ref, o ConvertOptions) *ConvertResult {
	t.Helper()
	r, err := Convert(t.Context(), src, dst, o)
	must(t, err)
	return r
}

// bootstrap writes the bootstrap of an image to a file.
func bootstrap(t testing.TB, ref Ref) string {
	t.Helper()
	im, err := Resolve(t.Context(), ref, Options{Want: WantNydus})
	must(t, err)
	defer im.Close()
	path := filepath.Join(t.TempDir(), "image.boot")
	f, err := os.Create(path)
	must(t, err)
	must(t, im.Bootstrap(t.Context(), f))
	must(t, f.Close())
	return path
}

// tree reads the whole converted image in a layout.
func tree(t testing.TB, ref Ref) []testtree.Entry {
	t.Helper()
	entries, err := testimage.Scan(bootstrap(t, ref), filepath.Join(ref.Path, "blobs", "sha256"))
	must(t, err)
	return entries
}

// TestConvertedImagesHaveTheTreeThatUmociUnpacks, out of a registry, and so has what they
// are converted back to.
func TestConvertedImagesHaveTheTreeThatUmociUnpacks(t *testing.T) {
	testenv.Long(t)
	s := testregistry.Start(t, testregistry.Options{})
	for _, tt := range []struct {
		name    string
		image   func(testing.TB) *testoci.Image
		version rafs.Version
	}{{"nginx", testoci.Nginx, rafs.V5}, {"odd", testoci.Odd, rafs.V6}} {
		t.Run(tt.name, func(t *testing.T) {
			im, dir := tt.image(t), t.TempDir()
			nydus, local := parse(t, s.Host+"/x/"+tt.name+":1"), parse(t, "oci:"+dir+"/nydus:1")
			o := defaults()
			o.Recipe.Version = tt.version
			convert(t, parse(t, im.Reference()), nydus, o)
			_, err := Copy(t.Context(), nydus, local, CopyOptions{})
			must(t, err)
			im.Compare(t, tree(t, local))
			run(t, "skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "docker://"+nydus.String(), "oci:"+dir+"/copy:1")

			_, err = Unconvert(t.Context(), nydus, parse(t, "oci:"+dir+"/back:1"), UnconvertOptions{})
			must(t, err)
			run(t, "umoci", "raw", "unpack", "--image", dir+"/back:1", dir+"/tree")
			got, err := testtree.Scan(dir+"/tree", testtree.ScanOptions{})
			must(t, err)
			im.Compare(t, got)
		})
	}
}

// TestDigestsDependOnTheInputOnly: not on the place, nor on how many layers are converted
// at a time, on how many processors, on the way back neither.
func TestDigestsDependOnTheInputOnly(t *testing.T) {
	testenv.Long(t)
	im, dir := testoci.Odd(t), t.TempDir()
	s := testregistry.Start(t, testregistry.Options{})
	o := defaults()
	o.Parallel = 1
	layout := parse(t, "oci:"+dir+"/l:1")
	first := convert(t, parse(t, im.Reference()), layout, o)
	back, err := Unconvert(t.Context(), layout, parse(t, "oci-archive:"+dir+"/back.tar:1"), UnconvertOptions{Parallel: 1})
	must(t, err)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	o.Parallel = 8
	for _, place := range []string{s.Host + "/some/nydus:1", "oci-archive:" + dir + "/a.tar:1"} {
		if again := convert(t, parse(t, im.Reference()), parse(t, place), o); again.Digest != first.Digest {
			t.Errorf("%s: %s, want %s", place, again.Digest, first.Digest)
		}
		again, err := Unconvert(t.Context(), parse(t, place), parse(t, "oci:"+dir+"/back:1"), UnconvertOptions{Parallel: 8})
		must(t, err)
		if again.Digest != back.Digest {
			t.Errorf("%s: back is %s, want %s", place, again.Digest, back.Digest)
		}
	}
}

// TestManifestIsTheOneThatNydusClientsWant (RAFS, section 7).
func TestManifestIsTheOneThatNydusClientsWant(t *testing.T) {
	dir, layers := small(t)
	dst := parse(t, "oci:"+t.TempDir()+"/l:1")
	convert(t, parse(t, "oci:"+dir), dst, defaults())
	im := whole(t, dst, Options{})
	src := whole(t, parse(t, "oci:"+dir), Options{})
	n := len(im.Manifest.Layers)
	if n != len(layers)+1 || len(im.Config.RootFS.DiffIDs) != n {
		t.Fatalf("%d layers and %d diff ids of %d layers", n, len(im.Config.RootFS.DiffIDs), len(layers))
	}
	for i, l := range im.Manifest.Layers[:n-1] {
		if l.MediaType != MediaTypeNydusBlob || l.Annotations["containerd.io/snapshot/nydus-blob"] != "true" || im.Config.RootFS.DiffIDs[i] != l.Digest {
			t.Errorf("blob %d: %+v, diff id %s", i, l, im.Config.RootFS.DiffIDs[i])
		}
		if _, there := l.Annotations["containerd.io/uncompressed"]; there {
			t.Errorf("blob %d has an annotation that belongs to conversions", i)
		}
	}
	last := im.Manifest.Layers[n-1]
	if last.MediaType != MediaTypeLayerGzip || last.Annotations["containerd.io/snapshot/nydus-bootstrap"] != "true" || last.Annotations["containerd.io/snapshot/nydus-fs-version"] != "6" {
		t.Errorf("bootstrap: %+v", last)
	}
	rc, err := im.Open(t.Context(), last)
	must(t, err)
	defer rc.Close()
	plain, done, err := build.Decompressed(rc)
	must(t, err)
	defer done()
	var all bytes.Buffer
	_, err = io.Copy(&all, plain)
	must(t, err)
	if got := sha(all.Bytes()); im.Config.RootFS.DiffIDs[n-1] != got {
		t.Errorf("diff id of the bootstrap is %s, want %s", im.Config.RootFS.DiffIDs[n-1], got)
	}
	h := im.Config.History
	if len(h) != len(src.Config.History)+1 || h[len(h)-1].CreatedBy != "Nydus Converter" || h[len(h)-1].Comment != "Nydus Bootstrap Layer" {
		t.Errorf("history %+v", h)
	}
	if !bytes.Equal(im.Config.Config, src.Config.Config) || !bytes.Contains(im.RawConfig, []byte(`"variant.unknown":"kept"`)) {
		t.Errorf("configuration %s, of %s", im.RawConfig, src.RawConfig)
	}
}

// TestConversionsAreFoundAgain: by the records, in the target or in a repository near
// it, and by an image that serves as a cache. The result is the same as without.
func TestConversionsAreFoundAgain(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir)
	s := testregistry.Start(t, testregistry.Options{})
	o := defaults()
	o.Records = filepath.Join(t.TempDir(), "records")
	place := func(repo string) Ref { return parse(t, s.Host+"/"+repo+":1") }
	want := convert(t, src, place("first"), o)
	reused := func(what string, dst Ref, o ConvertOptions, n int) {
		t.Helper()
		r := convert(t, src, dst, o)
		if r.Digest != want.Digest || r.Images[0].Reused != n {
			t.Errorf("%s: %s with %d layers reused, want %s with %d", what, r.Digest, r.Images[0].Reused, want.Digest, n)
		}
		whole(t, dst, Options{})
	}
	reused("the same place", place("first"), o, 2)
	reused("another repository", place("second"), o, 2)
	reused("a layout, which cannot mount", parse(t, "oci:"+t.TempDir()+"/l:1"), o, 0)
	cached := defaults()
	cached.Caches = []Ref{place("missing"), place("first")}
	reused("an image as a cache", place("third"), cached, 2)
	reused("an image as a cache, elsewhere", parse(t, "oci:"+t.TempDir()+"/l:1"), cached, 2)
	other := o
	other.Recipe.Compressor = rafs.CompressorLZ4
	if r := convert(t, src, place("first"), other); r.Images[0].Reused != 0 {
		t.Errorf("another compressor: %d layers reused", r.Images[0].Reused)
	}

	// Records that lie are found out.
	files, err := filepath.Glob(filepath.Join(o.Records, "*.json"))
	must(t, err)
	for i, f := range files {
		raw, err := os.ReadFile(f)
		must(t, err)
		raw = bytes.Replace(raw, []byte(`"boot":"sha256:`), fmt.Appendf(nil, `"boot":"sha256:%04x`, i), 1)
		must(t, os.WriteFile(f, bytes.Replace(raw, []byte(`","toc"`), []byte(`"`+`,"toc"`), 1), 0o600))
	}
	reused("damaged records", place("first"), o, 0)
}

func TestChunksOfADictionaryAreNotStoredAgain(t *testing.T) {
	same := string(random(7, 3<<20))
	dir := filepath.Join(t.TempDir(), "src")
	ocitest.Layout(t, dir, "base", ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("base", same)), ocitest.Gzip))
	ocitest.Layout(t, dir, "app", ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("copy", same), ocitest.File("own", "own")), ocitest.Gzip))
	out := t.TempDir() + "/l"
	base, app := parse(t, "oci:"+out+":base"), parse(t, "oci:"+out+":app")
	convert(t, parse(t, "oci:"+dir+":base"), base, defaults())
	o := defaults()
	o.ChunkDict = &base
	r := convert(t, parse(t, "oci:"+dir+":app"), app, o)
	im := whole(t, app, Options{})
	if len(im.Manifest.Layers) != 3 || im.Manifest.Layers[0].Size > 1<<20 || im.Manifest.Layers[1].Digest != whole(t, base, Options{}).Manifest.Layers[0].Digest {
		t.Errorf("layers %+v", im.Manifest.Layers)
	}
	if len(im.Config.RootFS.DiffIDs) != 3 {
		t.Errorf("%d diff ids", len(im.Config.RootFS.DiffIDs))
	}
	want := tree(t, parse(t, "oci:"+plainly(t, dir, "app")+":1"))
	testimage.Compare(t, want, tree(t, app), testtree.DiffOptions{})

	// In another registry the dictionary's blob comes along, and the way back needs it.
	s := testregistry.Start(t, testregistry.Options{})
	if again := convert(t, parse(t, "oci:"+dir+":app"), parse(t, s.Host+"/x/app:1"), o); again.Digest != r.Digest {
		t.Errorf("in a registry %s, want %s", again.Digest, r.Digest)
	}
	whole(t, parse(t, s.Host+"/x/app:1"), Options{})
	back, err := Unconvert(t.Context(), parse(t, s.Host+"/x/app:1"), parse(t, "oci:"+t.TempDir()+"/b:1"), UnconvertOptions{})
	must(t, err)
	if back.Images[0].Layers != 1 {
		t.Errorf("%d layers after the way back", back.Images[0].Layers)
	}
}

// plainly converts an image without anything special, and gives the layout.
func plainly(t *testing.T, dir, tag string) string {
	t.Helper()
	out := t.TempDir() + "/plain"
	convert(t, parse(t, "oci:"+dir+":"+tag), parse(t, "oci:"+out+":1"), defaults())
	return out
}

// TestLayersCanStayAsTheyAre: blobs then only say where everything is, and the way back
// gives the very layers.
func TestLayersCanStayAsTheyAre(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	ocitest.Layout(t, dir, "1",
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("random", string(random(3, 3<<20))), ocitest.File("text", strings.Repeat("words ", 100000))), ocitest.Gzip),
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("plain", string(random(4, 1<<20)))), ocitest.Plain))
	src := parse(t, "oci:"+dir)
	s := testregistry.Start(t, testregistry.Options{})
	dst, layout := parse(t, s.Host+"/x/ref:1"), parse(t, "oci:"+t.TempDir()+"/l:1")
	o := defaults()
	o.Recipe.Ref = true
	r := convert(t, src, dst, o)
	if again := convert(t, src, layout, o); again.Digest != r.Digest {
		t.Errorf("in a layout %s, in a registry %s", again.Digest, r.Digest)
	}
	im := whole(t, dst, Options{})
	want := whole(t, src, Options{})
	for i, l := range im.BlobLayers() {
		if l.NydusRef() != want.Manifest.Layers[i].Digest || l.Size > 200<<10 {
			t.Errorf("blob %d: %+v", i, l)
		}
	}
	testimage.Compare(t, tree(t, parse(t, "oci:"+plainly(t, dir, "1")+":1")), tree(t, layout), testtree.DiffOptions{})
	back, err := Unconvert(t.Context(), dst, parse(t, "oci:"+t.TempDir()+"/b:1"), UnconvertOptions{})
	must(t, err)
	got := whole(t, back.Ref, Options{})
	for i, l := range got.Manifest.Layers {
		if l.Digest != want.Manifest.Layers[i].Digest || got.Config.RootFS.DiffIDs[i] != want.Config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d is %s after the way back, was %s", i, l.Digest, want.Manifest.Layers[i].Digest)
		}
	}
}

// TestOneReferenceServesBothKindsOfNodes, by an index, and by referrers where the
// registry has no list of them.
func TestOneReferenceServesBothKindsOfNodes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	for _, p := range []string{"linux/amd64", "linux/arm64"} {
		ocitest.Manifest(t, dir, "", p, ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("platform", p)), ocitest.Gzip))
	}
	ocitest.Index(t, dir, "1")
	s := testregistry.Start(t, testregistry.Options{})
	src, merged := parse(t, s.Host+"/x/app:1"), parse(t, s.Host+"/x/app:merged")
	_, err := Copy(t.Context(), parse(t, "oci:"+dir), src, CopyOptions{})
	must(t, err)
	o := defaults()
	o.AllPlatforms, o.MergePlatform, o.Referrer = true, true, true
	if r := convert(t, src, merged, o); len(r.Images) != 2 {
		t.Errorf("%d images", len(r.Images))
	}
	for _, name := range []string{"amd64", "arm64"} {
		p := Platform{OS: "linux", Architecture: name}
		plain := whole(t, src, Options{Platform: &p})
		for _, want := range []Want{WantAny, WantOCI} {
			if im := whole(t, merged, Options{Platform: &p, Want: want}); im.Desc.Digest != plain.Desc.Digest {
				t.Errorf("%s: %s, want the OCI image %s", name, im.Desc.Digest, plain.Desc.Digest)
			}
		}
		im := whole(t, merged, Options{Platform: &p, Want: WantNydus})
		if !im.IsNydus() || im.Manifest.Config.MediaType != MediaTypeNydusConfig || im.Manifest.Subject.Digest != plain.Desc.Digest {
			t.Errorf("%s: %+v is not the Nydus image", name, im.Manifest)
		}
		byReferrer := whole(t, src, Options{Platform: &p, Want: WantNydus})
		if byReferrer.Desc.Digest != im.Desc.Digest {
			t.Errorf("%s: by referrer %s, want %s", name, byReferrer.Desc.Digest, im.Desc.Digest)
		}
	}
	// Others see the OCI image, and copy everything.
	run(t, "skopeo", "--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", "docker://"+merged.String(), "oci:"+t.TempDir()+"/all:1")
	raw := whole(t, merged, Options{Want: WantNydus})
	if n := len(raw.Root.Manifests); n != 4 || !raw.Root.Manifests[3].IsNydusManifest() || raw.Root.Manifests[1].IsNydusManifest() {
		t.Errorf("index of %d: %+v", n, raw.Root.Manifests)
	}
}

func TestImagesThatCannotBeConvertedAreRefused(t *testing.T) {
	dir, _ := small(t)
	out := t.TempDir()
	nydus := parse(t, "oci:"+out+"/l:1")
	convert(t, parse(t, "oci:"+dir), nydus, defaults())
	if _, err := Convert(t.Context(), nydus, parse(t, "oci:"+out+"/l:2"), defaults()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a Nydus image: %v", err)
	}
	if _, err := Unconvert(t.Context(), parse(t, "oci:"+dir), parse(t, "oci:"+out+"/l:2"), UnconvertOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an OCI image on the way back: %v", err)
	}
	if _, err := Convert(t.Context(), parse(t, "oci:"+dir), nydus.WithDigest(sha(nil)), defaults()); !errors.Is(err, ErrRef) {
		t.Errorf("a digest as destination: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	ocitest.Layout(t, bad, "1", ocitest.NewLayer(t, bytes.Repeat([]byte("no tar "), 1000), ocitest.Gzip))
	_, err := Convert(t.Context(), parse(t, "oci:"+bad), parse(t, "oci:"+out+"/l:3"), defaults())
	if err == nil || !strings.Contains(err.Error(), "layer sha256:") || !strings.Contains(err.Error(), "entry at 0") {
		t.Errorf("a layer that is no tar: %v", err)
	}
	if _, err := Resolve(t.Context(), parse(t, "oci:"+out+"/l:3"), Options{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was not made has a name: %v", err)
	}
}

// TestOneImageOfSeveralPlatforms is converted once, and is that of each of them.
func TestOneImageOfSeveralPlatforms(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir+":small")
	to, err := create(t.Context(), src, &Access{})
	must(t, err)
	defer to.close()
	e := whole(t, src, Options{}).Desc
	x := newIndex(false)
	for _, arch := range []string{"amd64", "arm64", "amd64"} {
		e.Platform = &Platform{OS: "linux", Architecture: arch}
		x.Manifests = append(x.Manifests, e)
	}
	raw, d, err := encode(x, x.MediaType)
	must(t, err)
	must(t, to.putManifest(t.Context(), raw, d))
	must(t, to.tag(t.Context(), raw, d, "both"))
	must(t, to.finish(t.Context()))

	o, out := defaults(), "oci:"+t.TempDir()+"/l"
	o.Platforms = []Platform{{OS: "linux", Architecture: "arm64"}}
	one := convert(t, src.WithTag("both"), parse(t, out+":arm"), o)
	if len(one.Images) != 1 || one.Images[0].Platform != "linux/arm64" {
		t.Errorf("made %+v", one.Images)
	}
	for _, merge := range []bool{false, true} {
		o.Platforms, o.AllPlatforms, o.MergePlatform = nil, true, merge
		all := convert(t, src.WithTag("both"), parse(t, out+":all"), o)
		if len(all.Images) != 2 || all.Images[0].Digest != all.Images[1].Digest {
			t.Errorf("made %+v", all.Images)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			p := Platform{OS: "linux", Architecture: arch}
			im := whole(t, parse(t, out+":all"), Options{Platform: &p})
			if im.Platform().Architecture != arch {
				t.Errorf("%s: got that of %s", arch, im.Platform())
			}
		}
		layers := 0
		back, err := Unconvert(t.Context(), parse(t, out+":all"), parse(t, out+":back"), UnconvertOptions{AllPlatforms: true,
			Progress: &Progress{Func: func(e Event) {
				if e.What == "layer" && e.State == StateDone {
					layers++
				}
			}}})
		must(t, err)
		if len(back.Images) != 2 || back.Images[0].Digest != back.Images[1].Digest || layers != 2 {
			t.Errorf("made %+v of %d layers", back.Images, layers)
		}
	}
}

// TestImagesWithoutLayersAndWithTheSameLayerTwice exist, and are converted.
func TestImagesWithoutLayersAndWithTheSameLayerTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	twice := ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("a", "a")), ocitest.Gzip)
	empty := ocitest.NewLayer(t, ocitest.Tar(t), ocitest.Gzip)
	ocitest.Layout(t, dir, "none")
	ocitest.Layout(t, dir, "twice", twice, empty, twice, empty)
	out := t.TempDir() + "/l"
	for tag, layers := range map[string]int{"none": 1, "twice": 5} {
		dst := parse(t, "oci:"+out+":"+tag)
		convert(t, parse(t, "oci:"+dir+":"+tag), dst, defaults())
		if im := whole(t, dst, Options{}); len(im.Manifest.Layers) != layers || !im.IsNydus() {
			t.Errorf("%s: %d layers", tag, len(im.Manifest.Layers))
		}
		if entries := tree(t, dst); len(entries) != 1+(layers-1)/4 {
			t.Errorf("%s: %+v", tag, entries)
		}
		_, err := Unconvert(t.Context(), dst, parse(t, "oci:"+out+":back-"+tag), UnconvertOptions{})
		must(t, err)
	}
}
