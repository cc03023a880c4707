package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vrafs/backend"
	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testregistry"
	"vrafs/oci/ocitest"
	"vrafs/rafs"
)

// TestCheckAgreesWithConversions of an image of everything odd, layer by layer and as a
// whole, by rules that are not the builder's.
func TestCheckAgreesWithConversions(t *testing.T) {
	testenv.Long(t)
	for _, image := range []func(testing.TB) *testoci.Image{testoci.Odd, testoci.Nginx} {
		im := image(t)
		src, dst := parse(t, im.Reference()), parse(t, "oci:"+t.TempDir()+"/l:1")
		o := defaults()
		o.Recipe.Compressor = rafs.CompressorLZ4
		convert(t, src, dst, o)
		r, err := Check(t.Context(), dst, CheckOptions{Source: &src})
		if err != nil {
			t.Errorf("%s: %v\n%s", im.Name, err, strings.Join(r.Problems, "\n"))
		}
		if r.Layers < 3 || r.Entries < 300 || r.Names < 300 {
			t.Errorf("%s: only %+v were compared", im.Name, r)
		}
	}
}

// TestCheckFindsTheSourceThatAnImageNames, by its index or as its subject.
func TestCheckFindsTheSourceThatAnImageNames(t *testing.T) {
	dir, _ := small(t)
	s := testregistry.Start(t, testregistry.Options{})
	src := parse(t, s.Host+"/x/y:1")
	_, err := Copy(t.Context(), parse(t, "oci:"+dir), src, CopyOptions{})
	must(t, err)
	want := whole(t, src, Options{}).Desc.Digest
	for name, o := range map[string]ConvertOptions{
		"merged":  {Recipe: DefaultRecipe(), MergePlatform: true},
		"subject": {Recipe: DefaultRecipe(), Referrer: true},
		"alone":   {Recipe: DefaultRecipe()},
		"ref":     {Recipe: Recipe{Version: rafs.V6, Compressor: rafs.CompressorGzip, Digester: rafs.DigesterSHA256, ChunkSize: 1 << 20, Ref: true, Prefetch: []string{"/"}}, Referrer: true},
	} {
		dst := parse(t, s.Host+"/x/y:"+name)
		convert(t, src, dst, o)
		r, err := Check(t.Context(), dst, CheckOptions{})
		if err != nil {
			t.Errorf("%s: %v: %+v", name, err, r)
			continue
		}
		if name == "alone" {
			if r.Source != "" || r.Layers != 2 {
				t.Errorf("%s: %+v", name, r)
			}
		} else if r.Source != want || r.Entries == 0 || r.Names == 0 {
			t.Errorf("%s: %+v, want %s as the source", name, r, want)
		}
	}
}

// TestCheckFindsEveryDifference between an image and another source.
func TestCheckFindsEveryDifference(t *testing.T) {
	out := t.TempDir() + "/l"
	layout := func(entries ...ocitest.Entry) string {
		dir := filepath.Join(t.TempDir(), "src")
		ocitest.Layout(t, dir, "1", ocitest.NewLayer(t, ocitest.Tar(t, entries...), ocitest.Gzip))
		return "oci:" + dir + ":1"
	}
	file := func(change func(*tar.Header)) ocitest.Entry {
		e := ocitest.File("a", "data")
		change(&e.Header)
		return e
	}
	dst := parse(t, "oci:"+out+":1")
	convert(t, parse(t, layout(ocitest.File("a", "data"), ocitest.HardLink("b", "a"), ocitest.Link("l", "a"))), dst, defaults())
	for want, entries := range map[string][]ocitest.Entry{
		"should be 600":           {file(func(h *tar.Header) { h.Mode = 0o600 }), ocitest.HardLink("b", "a"), ocitest.Link("l", "a")},
		"owner 0:0":               {file(func(h *tar.Header) { h.Uid = 3 }), ocitest.HardLink("b", "a"), ocitest.Link("l", "a")},
		"time":                    {file(func(h *tar.Header) { h.ModTime = h.ModTime.Add(1e9) }), ocitest.HardLink("b", "a"), ocitest.Link("l", "a")},
		"attributes":              {file(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"} }), ocitest.HardLink("b", "a"), ocitest.Link("l", "a")},
		"bytes that are not":      {ocitest.File("a", "Data"), ocitest.HardLink("b", "a"), ocitest.Link("l", "a")},
		"is the file":             {ocitest.File("a", "data"), ocitest.File("b", "data"), ocitest.Link("l", "a")},
		"target":                  {ocitest.File("a", "data"), ocitest.HardLink("b", "a"), ocitest.Link("l", "b")},
		"missing":                 {ocitest.File("a", "data"), ocitest.HardLink("b", "a"), ocitest.Link("l", "a"), ocitest.Dir("d")},
		"the source has no such":  {ocitest.File("a", "data"), ocitest.HardLink("b", "a")},
		"type":                    {ocitest.File("a", "data"), ocitest.HardLink("b", "a"), ocitest.Dir("l")},
		"the whiteout is missing": {ocitest.File("a", "data"), ocitest.HardLink("b", "a"), ocitest.Link("l", "a"), ocitest.File(".wh.x", "")},
	} {
		src := parse(t, layout(entries...))
		r, err := Check(t.Context(), dst, CheckOptions{Source: &src})
		if !errors.Is(err, ErrDiffers) || !strings.Contains(strings.Join(r.Problems, "\n"), want) {
			t.Errorf("%s: %v: %q", want, err, r.Problems)
		}
	}
}

// TestCheckHoldsManifestsToTheRules of clients.
func TestCheckHoldsManifestsToTheRules(t *testing.T) {
	dir, _ := small(t)
	dst := parse(t, "oci:"+t.TempDir()+"/l:1")
	convert(t, parse(t, "oci:"+dir), dst, defaults())
	im := whole(t, dst, Options{})
	for want, change := range map[string]func(m *Manifest){
		"media type":             func(m *Manifest) { m.Layers[0].MediaType = MediaTypeLayerGzip },
		"annotation":             func(m *Manifest) { m.Layers[1].Annotations = nil },
		"nydus-fs-version":       func(m *Manifest) { delete(m.Layers[2].Annotations, AnnotationNydusFSVersion) },
		"version 6, the layer":   func(m *Manifest) { m.Layers[2].Annotations[AnnotationNydusFSVersion] = "5" },
		"is no layer of":         func(m *Manifest) { m.Layers = slices.Delete(m.Layers, 1, 2) },
		"3 diff ids of 2 layers": func(m *Manifest) { m.Layers = m.Layers[1:] },
	} {
		var m Manifest
		must(t, json.Unmarshal(im.RawManifest, &m))
		change(&m)
		raw, d, err := encode(m, MediaTypeManifest)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dst.Path, blobName(d.Digest)), raw, 0o600))
		r, err := Check(t.Context(), dst.WithDigest(d.Digest), CheckOptions{})
		if !errors.Is(err, ErrDiffers) || !strings.Contains(strings.Join(r.Problems, "\n"), want) {
			t.Errorf("%s: %v: %+v", want, err, r)
		}
	}
}

// TestCheckReadsEveryChunk, also of an image that does not say what its blobs were made of,
// as those of other converters.
func TestCheckReadsEveryChunk(t *testing.T) {
	dir, _ := small(t)
	dst := parse(t, "oci:"+t.TempDir()+"/l:1")
	convert(t, parse(t, "oci:"+dir), dst, defaults())
	im := whole(t, dst, Options{})
	config, err := rewriteConfig(im.RawConfig, im.Config.RootFS.DiffIDs, nil)
	must(t, err)
	m := *im.Manifest
	m.Config.Digest, m.Config.Size = sha(config), int64(len(config))
	for i := range m.Layers {
		delete(m.Layers[i].Annotations, AnnotationNydusSourceDigest)
	}
	raw, d, err := encode(m, MediaTypeManifest)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dst.Path, blobName(d.Digest)), raw, 0o600))
	must(t, os.WriteFile(filepath.Join(dst.Path, blobName(m.Config.Digest)), config, 0o600))
	for _, ref := range []Ref{dst, dst.WithDigest(d.Digest)} {
		if r, err := Check(t.Context(), ref, CheckOptions{}); err != nil || r.Layers != 2 {
			t.Errorf("%s: %+v, %v", ref, r, err)
		}
	}
	blob := filepath.Join(dst.Path, blobName(m.Layers[1].Digest))
	data, err := os.ReadFile(blob)
	must(t, err)
	data[0] ^= 1
	must(t, os.WriteFile(blob, data, 0o600))
	for _, ref := range []Ref{dst, dst.WithDigest(d.Digest)} {
		if r, err := Check(t.Context(), ref, CheckOptions{}); err == nil {
			t.Errorf("%s: a damaged chunk passes: %+v", ref, r)
		}
	}
}

// TestLayersThatTakeTooMuchMemoryAreNotCompared: a few bytes of a compressed layer can make
// any number of names, and of directories in one name.
func TestLayersThatTakeTooMuchMemoryAreNotCompared(t *testing.T) {
	limits := treeLimits{names: 100, bytes: 16 << 10, path: 1 << 10}
	long := strings.Repeat("x", 200)
	attribute := func(i int) ocitest.Entry {
		e := ocitest.File(strconv.Itoa(i), "")
		e.PAXRecords = map[string]string{"SCHILY.xattr.user.x": long}
		return e
	}
	for name, entry := range map[string]func(i int) ocitest.Entry{
		"names":       func(i int) ocitest.Entry { return ocitest.File(strconv.Itoa(i), "") },
		"long names":  func(i int) ocitest.Entry { return ocitest.File(strconv.Itoa(i)+long, "") },
		"targets":     func(i int) ocitest.Entry { return ocitest.Link(strconv.Itoa(i), long) },
		"attributes":  attribute,
		"directories": func(i int) ocitest.Entry { return ocitest.File(fmt.Sprint(i, "/", strings.Repeat("d/", 20), "f"), "") },
		"one name":    func(int) ocitest.Entry { return ocitest.File(strings.Repeat("d/", 1000)+"f", "") },
	} {
		fits, err := readLayer(bytes.NewReader(ocitest.Tar(t, entry(0))), limits)
		if name != "one name" {
			must(t, err)
			must(t, newSourceTree(limits).put(fits))
		}
		var entries []ocitest.Entry
		n := limits.names + 1
		if name == "directories" {
			n /= 2
		}
		for i := range n {
			entries = append(entries, entry(i))
		}
		l, err := readLayer(bytes.NewReader(ocitest.Tar(t, entries...)), limits)
		if err == nil {
			err = newSourceTree(limits).put(l)
		}
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpackingHasEndedWhenAnImageIsReleased, also if its tar is not read to the end: its
// bootstrap is memory that can no longer be read then.
func TestUnpackingHasEndedWhenAnImageIsReleased(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	ocitest.Layout(t, dir, "1", ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("a", string(random(1, 8<<20)))), ocitest.Plain))
	dst := parse(t, "oci:"+t.TempDir()+"/l:1")
	convert(t, parse(t, "oci:"+dir), dst, defaults())
	im := whole(t, dst, Options{Want: WantNydus})
	var boot bytes.Buffer
	must(t, im.Bootstrap(t.Context(), &boot))
	synctest.Test(t, func(t *testing.T) {
		blobs := &stuckBlobs{Opener: im.Blobs(), goOn: make(chan struct{})}
		returned := false
		go func() {
			_, err := unpacked(t.Context(), build.Image{Data: boot.Bytes(), Blobs: blobs}, treeLimits{})
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("no name is allowed: %v", err)
			}
			returned = true
		}()
		synctest.Wait()
		if n := blobs.reads.Load(); n < 2 || returned {
			t.Errorf("%d reads of the blob; unpacking is over while it is read: %v", n, returned)
		}
		close(blobs.goOn)
		synctest.Wait()
		if !returned {
			t.Error("unpacking does not end")
		}
	})
}

// stuckBlobs are read once before goOn.
type stuckBlobs struct {
	backend.Opener
	reads atomic.Int32
	goOn  chan struct{}
}

func (s *stuckBlobs) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := s.Opener.Open(ctx, id)
	return &stuckBlob{b, s}, err
}

type stuckBlob struct {
	backend.Blob
	s *stuckBlobs
}

func (b *stuckBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if b.s.reads.Add(1) > 1 {
		<-b.s.goOn
	}
	return b.Blob.ReadAt(ctx, p, off)
}

// TestProblemsAreShort, whatever the names and attributes in them.
func TestProblemsAreShort(t *testing.T) {
	var r CheckReport
	for range 2 * maxProblems {
		r.add("%q", strings.Repeat("é", 1<<20))
	}
	if len(r.Problems) != maxProblems || len(r.Problems[0]) > maxProblem+3 {
		t.Errorf("%d problems of %d bytes", len(r.Problems), len(r.Problems[0]))
	}
}

// TestConfigurationsThatDisagreeWithTheirLayersAreNoticed: another number of layers by the
// conversion, which reads no diff id, and another diff id by the check.
func TestConfigurationsThatDisagreeWithTheirLayersAreNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	layer := ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("a", "a")), ocitest.Gzip)
	right := layer.DiffID
	layer.DiffID = sha([]byte("something else"))
	ocitest.Layout(t, dir, "1", layer)
	src, dst := parse(t, "oci:"+dir+":1"), parse(t, "oci:"+t.TempDir()+"/l:1")
	convert(t, src, dst, defaults())
	report, err := Check(t.Context(), dst, CheckOptions{Source: &src})
	if !errors.Is(err, ErrDiffers) || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], right.String()) || !strings.Contains(report.Problems[0], layer.DiffID.String()) {
		t.Errorf("the diff id of something else: %v, %q", err, report.Problems)
	}

	im := whole(t, src, Options{})
	m := *im.Manifest
	m.Layers = append(m.Layers, m.Layers[0])
	to, err := create(t.Context(), src, &Access{})
	must(t, err)
	defer to.close()
	raw, d, err := encode(m, m.MediaType)
	must(t, err)
	must(t, to.tag(t.Context(), raw, d, "more"))
	must(t, to.finish(t.Context()))
	if _, err := Convert(t.Context(), src.WithTag("more"), dst, defaults()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "2 layers, the configuration has 1") {
		t.Errorf("more layers than diff ids: %v", err)
	}
}
