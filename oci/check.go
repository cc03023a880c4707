package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/rafs"
)

// ErrDiffers is the class of converted images that are not what they should be.
var ErrDiffers = errors.New("the converted image is not right")

// CheckOptions are the options of Check.
type CheckOptions struct {
	Options
	// Source is the image that was converted; nil is the one that the reference or the
	// manifest names, if they name one.
	Source *Ref
	// SourceAccess says how it is reached.
	SourceAccess Access
	Progress     *Progress
}

// A CheckReport says what Check saw.
type CheckReport struct {
	Manifest digest.Digest // of the Nydus image
	Source   digest.Digest // of the image it was compared with, "" if there is none
	Layers   int           // read, whose chunks all have their digests
	Entries  int           // of layers that were compared
	Names    int           // of the merged tree that were compared
	Problems []string      // at most maxProblems
}

const maxProblems = 100

// maxProblem bounds one of them in bytes: names and attributes can be of any length.
const maxProblem = 4 << 10

func (r *CheckReport) add(format string, a ...any) {
	if len(r.Problems) == maxProblems {
		return
	}
	text := fmt.Sprintf(format, a...)
	if len(text) > maxProblem {
		text = strings.ToValidUTF8(text[:maxProblem], "") + "..."
	}
	r.Problems = append(r.Problems, text)
}

// Check looks at a Nydus image: whether its manifest, its configuration and its bootstrap
// are as clients want them, and whether every chunk has its digest. With a source it
// compares the entries of each layer, and the merged tree with the layers put on each
// other by rules of its own. Problems are in the report, and make an error of class
// ErrDiffers.
func Check(ctx context.Context, ref Ref, o CheckOptions) (*CheckReport, error) {
	o.Want = WantNydus
	im, err := Resolve(ctx, ref, o.Options)
	if err != nil {
		return nil, err
	}
	defer im.Close()
	if _, err := im.BootstrapLayer(); err != nil {
		return nil, err
	}
	c := &checker{o: o, im: im, report: &CheckReport{Manifest: im.Desc.Digest}}
	if err := c.run(ctx); err != nil {
		return c.report, fmt.Errorf("check %s: %w", ref, err)
	}
	if n := len(c.report.Problems); n > 0 {
		return c.report, fmt.Errorf("check %s: %w: %d problems", ref, ErrDiffers, n)
	}
	return c.report, nil
}

// A checker is one check under way.
type checker struct {
	o      CheckOptions
	im     *Image
	boot   *rafs.Image
	raw    []byte      // of boot
	tree   *sourceTree // of the source's layers, nil without one
	report *CheckReport
}

func (c *checker) run(ctx context.Context) error {
	c.manifest()
	var raw bytes.Buffer
	if err := c.im.Bootstrap(ctx, &raw); err != nil {
		return err
	}
	boot, err := rafs.Open(raw.Bytes(), rafs.Options{Name: "image.boot"})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if _, err := boot.Check(ctx, rafs.CheckOptions{MaxProblems: 1}); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	c.boot, c.raw = boot, raw.Bytes()
	c.blobTable()
	source, err := c.source(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if source != nil {
		defer source.Close()
		c.report.Source, c.tree = source.Desc.Digest, newSourceTree(defaultTreeLimits)
	}
	if err := c.layers(ctx, source); err != nil {
		return err
	}
	if c.tree != nil {
		return c.merged(ctx)
	}
	return nil
}

// manifest holds the manifest to the rules that clients have (RAFS, section 7.1).
func (c *checker) manifest() {
	m, n := c.im.Manifest, len(c.im.Manifest.Layers)
	for i, l := range m.Layers[:n-1] {
		if l.MediaType != MediaTypeNydusBlob || l.Annotations[AnnotationNydusBlob] != "true" {
			c.report.add("layer %d %s: media type %q and annotation %s=%q, a blob has %q and \"true\"", i+1, l.Digest, l.MediaType, AnnotationNydusBlob, l.Annotations[AnnotationNydusBlob], MediaTypeNydusBlob)
		}
	}
	if v := m.Layers[n-1].Annotations[AnnotationNydusFSVersion]; v != "5" && v != "6" {
		c.report.add("bootstrap layer: %s is %q", AnnotationNydusFSVersion, v)
	}
	if got := len(c.im.Config.RootFS.DiffIDs); got != n {
		c.report.add("configuration: %d diff ids of %d layers", got, n)
	}
}

// blobTable compares the blobs that the bootstrap refers to with the layers.
func (c *checker) blobTable() {
	for i := range c.boot.Blobs() {
		id := c.boot.Blobs()[i].ID
		if !slices.ContainsFunc(c.im.Manifest.Layers, func(d Descriptor) bool {
			return d.Digest.Encoded() == id || d.NydusRef() != "" && d.NydusRef().Encoded() == id
		}) {
			c.report.add("bootstrap: blob %.80q is no layer of the image", id)
		}
	}
	version := "6"
	if c.boot.Version() == rafs.V5 {
		version = "5"
	}
	if said := c.im.Manifest.Layers[len(c.im.Manifest.Layers)-1].Annotations[AnnotationNydusFSVersion]; said != version {
		c.report.add("bootstrap: version %s, the layer says %q", version, said)
	}
}

// source finds the image to compare with; nil if there is none.
func (c *checker) source(ctx context.Context) (*Image, error) {
	p := c.im.Platform()
	o := Options{Access: c.o.Access, Platform: &p, Want: WantOCI}
	var im *Image
	var err error
	switch {
	case c.o.Source != nil:
		o.Access = c.o.SourceAccess
		im, err = Resolve(ctx, *c.o.Source, o)
	case c.im.Manifest.Subject != nil:
		im, err = c.im.repo.Image(ctx, c.im.Ref.WithDigest(c.im.Manifest.Subject.Digest), o)
	case c.im.Root != nil:
		im, err = c.im.repo.Image(ctx, c.im.Ref, o)
		if errors.Is(err, ErrPlatform) {
			return nil, nil
		}
	default:
		return nil, nil
	}
	if err == nil && im.IsNydus() {
		if c.o.Source == nil {
			return nil, nil
		}
		err = fmt.Errorf("%w: %s is a Nydus image itself", ErrUnsupported, im.Ref)
	}
	return im, err
}

// layers reads every blob, and compares it with the source's layer.
func (c *checker) layers(ctx context.Context, source *Image) error {
	_, n := sourceHistory(c.im.Config.History)
	own := ownLayers(c.im.BlobLayers(), n)
	if source != nil && len(own) != len(source.Manifest.Layers) {
		c.report.add("%d blobs of layers, the source has %d layers", len(own), len(source.Manifest.Layers))
		return nil
	}
	if own == nil {
		return c.whole(ctx)
	}
	for i, d := range own {
		if d.NydusRef() != "" {
			if source != nil && d.NydusRef() != source.Manifest.Layers[i].Digest {
				c.report.add("layer %d: refers to %s, the source's is %s", i+1, d.NydusRef(), source.Manifest.Layers[i].Digest)
			}
		}
		if err := c.layer(ctx, i, d, source); err != nil {
			return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(own), d.Digest, err)
		}
		c.report.Layers++
		c.o.Progress.tell(Event{What: "layer", Name: d.Digest.String(), State: StateDone, Done: d.Size, Total: d.Size})
	}
	return nil
}

// whole unpacks the merged tree, where nothing says which blob a layer was made of.
func (c *checker) whole(ctx context.Context) error {
	c.report.Layers = len(c.im.BlobLayers())
	return verifyChunks(ctx, build.Image{Name: "image.boot", Data: c.raw, Blobs: c.im.Blobs()})
}

// verifyChunks compares every chunk of an image with its digest.
func verifyChunks(ctx context.Context, image build.Image) error {
	return build.Unpack(ctx, image, io.Discard, build.UnpackOptions{Workers: buildWorkers()})
}

// layer unpacks a blob, which compares every chunk with its digest, and compares the
// entries with those of the source's layer.
func (c *checker) layer(ctx context.Context, i int, d Descriptor, source *Image) error {
	files, err := localBlob(ctx, c.im, d, c.o.Progress)
	if err != nil {
		return err
	}
	defer files.Close()
	b, err := bootload.Extract(files, uint64(d.Size), d.Digest.Encoded())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer b.Close()
	image := build.Image{Name: b.Name, Data: b.Bytes(), Blobs: &layerBlobs{id: d.Digest.Encoded(), self: files, size: uint64(d.Size), rest: c.im.Blobs()}}
	if source == nil {
		return verifyChunks(ctx, image)
	}
	got, err := unpacked(ctx, image, defaultTreeLimits)
	if err != nil {
		return err
	}
	rc, err := source.Open(ctx, source.Manifest.Layers[i])
	if err != nil {
		return err
	}
	defer rc.Close()
	plain, done, err := build.Decompressed(rc)
	if err != nil {
		return err
	}
	defer done()
	sum := digest.SHA256.Digester()
	want, err := readLayer(io.TeeReader(plain, sum.Hash()), defaultTreeLimits)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if said := source.Config.RootFS.DiffIDs; i < len(said) && said[i] != sum.Digest() {
		c.report.add("source: layer %d: its content is %s, its configuration says %.80q", i+1, sum.Digest(), said[i])
	}
	c.report.Entries += len(want.byName)
	want.compare(got, func(name, why string) { c.report.add("layer %d: %q: %s", i+1, name, why) })
	if err := want.noteChunks(ctx, b.Image); err != nil {
		return err
	}
	return c.tree.put(want)
}

// unpacked is what the unpacked image is about. Nothing reads the image when it returns.
func unpacked(ctx context.Context, image build.Image, limits treeLimits) (*layerTree, error) {
	pr, pw := io.Pipe()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer pr.Close()
	wg.Go(func() {
		pw.CloseWithError(build.Unpack(ctx, image, pw, build.UnpackOptions{Workers: buildWorkers()}))
	})
	return readLayer(pr, limits)
}

// merged compares the bootstrap's tree with the source's layers.
func (c *checker) merged(ctx context.Context) error {
	names, err := c.tree.compare(ctx, c.boot, func(name, why string) { c.report.add("merged: %q: %s", name, why) })
	c.report.Names = names
	return err
}
