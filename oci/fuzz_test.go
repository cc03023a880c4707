package oci

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"vrafs/oci/ocitest"
)

// classified fails the test for an error that has no class.
func classified(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRef) {
		t.Errorf("an error without class: %v", err)
	}
}

func FuzzReference(f *testing.F) {
	f.Add("docker://localhost:5000/a/b:c")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		classified(t, err)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, written as %q, which is %+v, %v", s, r, r.String(), again, err)
		}
	})
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[]}`), MediaTypeManifest)
	f.Fuzz(func(t *testing.T, raw []byte, told string) {
		typ, err := mediaTypeOf(raw, told)
		classified(t, err)
		if err != nil {
			return
		}
		d := Descriptor{MediaType: typ}
		switch {
		case d.IsIndex():
			x, err := parseIndex(raw)
			classified(t, err)
			if err == nil {
				_, err = choose(x.Manifests, Options{})
				if err != nil && !errors.Is(err, ErrPlatform) {
					t.Errorf("choose: %v", err)
				}
				_, err = named(x.Manifests, "latest")
				classified(t, err)
			}
		case d.IsManifest():
			_, err = parseManifest(raw)
			classified(t, err)
		default:
			t.Errorf("%q is neither index nor manifest", typ)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseConfig(raw)
		classified(t, err)
		if err != nil {
			return
		}
		again, err := rewriteConfig(raw, c.RootFS.DiffIDs, c.History)
		if err != nil {
			return // for example null
		}
		if _, err := parseConfig(again); err != nil {
			t.Errorf("%q, written again as %q: %v", raw, again, err)
		}
	})
}

func FuzzArchive(f *testing.F) {
	f.Add(ocitest.Tar(f, ocitest.File("manifest.json", `[{"Config":"c","RepoTags":["a:b"],"Layers":["l"]}]`),
		ocitest.File("c", `{"rootfs":{"diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}`), ocitest.File("l", "")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := readArchive(t.Context(), bytes.NewReader(raw), int64(len(raw)))
		classified(t, err)
		if err != nil {
			return
		}
		im, err := (&Repo{store: a}).Image(t.Context(), Ref{Kind: KindArchive}, Options{})
		if err != nil && !errors.Is(err, ErrPlatform) {
			classified(t, err)
		}
		if err != nil {
			return
		}
		for _, l := range im.Manifest.Layers {
			rc, err := im.Open(t.Context(), l)
			classified(t, err)
			if err == nil {
				_, err = io.Copy(io.Discard, rc)
				classified(t, err)
				must(t, rc.Close())
			}
		}
	})
}

func FuzzBootstrapLayer(f *testing.F) {
	plain := ocitest.Tar(f, ocitest.Dir("image"), ocitest.File("image/image.boot", "boot"))
	f.Add(plain)
	f.Add(ocitest.NewLayer(f, plain, ocitest.Gzip).Bytes)
	f.Add(ocitest.NewLayer(f, plain, ocitest.Zstd).Bytes)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		err := copyBootstrap(&limitWriter{&out, 1 << 20}, bytes.NewReader(raw))
		if err == nil && out.Len() > 1<<20 {
			t.Errorf("%d bytes out of %d", out.Len(), len(raw))
		}
	})
}

// A limitWriter fails after n bytes.
type limitWriter struct {
	w io.Writer
	n int
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, io.ErrShortWrite
	}
	return l.w.Write(p)
}

func FuzzCheckedLayers(f *testing.F) {
	link := ocitest.Tar(f, ocitest.Dir("d"), ocitest.Link("l", "d"), ocitest.Link("self", "self"))
	f.Add(link, ocitest.Tar(f, ocitest.File("l/x", "x"), ocitest.File("self/y", "y"), ocitest.HardLink("h", "l/x"), ocitest.File("d/.wh..wh..opq", "")))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		s := newSourceTree(defaultTreeLimits)
		for _, raw := range [][]byte{lower, upper} {
			l, err := readLayer(bytes.NewReader(raw), defaultTreeLimits)
			if err != nil {
				return
			}
			l.compare(l, func(name, why string) { t.Errorf("%q differs from itself: %s", name, why) })
			must(t, s.put(l))
		}
		s.root.missing("/", map[string]bool{}, func(string, string) {})
	})
}
