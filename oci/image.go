package oci

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// An Image is one image for one platform. Close it after use.
type Image struct {
	// Ref is the reference that it was found by.
	Ref Ref
	// Desc names the manifest. Its platform is set if an index said it.
	Desc Descriptor
	// Root is the index that the reference names, nil if it names the manifest itself.
	Root *Index
	// Manifest and Config are parsed; RawManifest and RawConfig are their bytes.
	Manifest    *Manifest
	RawManifest []byte
	Config      *Config
	RawConfig   []byte

	repo *Repo
	own  bool // Close closes repo
}

// Resolve finds the image that ref names, for the wanted platform. Errors are of class
// ErrNotFound, ErrDenied, ErrPlatform, ErrUnsupported or ErrCorrupt where they are not
// the network's or the system's.
func Resolve(ctx context.Context, ref Ref, o Options) (*Image, error) {
	r, err := Open(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	im, err := r.Image(ctx, ref, o)
	if err != nil {
		r.Close()
		return nil, err
	}
	im.own = true
	return im, nil
}

// Close releases the place that Resolve opened.
func (im *Image) Close() error {
	if !im.own {
		return nil
	}
	return im.repo.Close()
}

// Image finds an image in an opened place. It is good until the Repo is closed.
func (r *Repo) Image(ctx context.Context, ref Ref, o Options) (*Image, error) {
	im, err := r.image(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return im, nil
}

func (r *Repo) image(ctx context.Context, ref Ref, o Options) (*Image, error) {
	raw, d, err := r.document(ctx, ref, nil)
	if err != nil {
		return nil, err
	}
	im := &Image{Ref: ref, Desc: d, RawManifest: raw, repo: r}
	// An index may lead to another, as a layout's does; few levels are enough for all.
	for depth := 0; im.Desc.IsIndex(); depth++ {
		if depth == 4 {
			return nil, fmt.Errorf("%w: an index in an index in an index", ErrUnsupported)
		}
		x, err := parseIndex(im.RawManifest)
		if err != nil {
			return nil, err
		}
		if im.Root == nil {
			im.Root = x
		}
		e, err := choose(x.Manifests, o)
		if err != nil {
			return nil, err
		}
		if im.RawManifest, im.Desc, err = r.document(ctx, ref.WithDigest(e.Digest), &e); err != nil {
			return nil, err
		}
	}
	if err := im.load(ctx); err != nil {
		return nil, err
	}
	if o.Want == WantNydus && !im.IsNydus() {
		return im.nydusReferrer(ctx)
	}
	return im, nil
}

// imageOf reads the image that d names in the place of ref.
func (r *Repo) imageOf(ctx context.Context, ref Ref, d *Descriptor) (*Image, error) {
	im := &Image{Ref: ref.WithDigest(d.Digest), repo: r}
	var err error
	if im.RawManifest, im.Desc, err = r.document(ctx, im.Ref, d); err == nil {
		err = im.load(ctx)
	}
	return im, err
}

// nydusReferrer looks for the conversion of im among what refers to it; im itself if
// there is none.
func (im *Image) nydusReferrer(ctx context.Context) (*Image, error) {
	x, err := im.repo.referrers(ctx, im.Desc.Digest)
	if isMissing(err) {
		return im, nil
	}
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", im.Desc.Digest, err)
	}
	looked := 0
	for i := range x.Manifests {
		d := x.Manifests[i]
		if !mayBeNydus(&d) || looked == maxReferrers {
			continue
		}
		looked++
		n, err := im.repo.imageOf(ctx, im.Ref, &d)
		if isMissing(err) {
			continue // a tag still lists what was deleted
		}
		if err != nil {
			return nil, fmt.Errorf("referrer of %s: %w", im.Desc.Digest, err)
		}
		n.Ref, n.Root = im.Ref, im.Root
		if n.Desc.Platform == nil {
			n.Desc.Platform = im.Desc.Platform
		}
		if n.IsNydus() && n.Manifest.Subject != nil && n.Manifest.Subject.Digest == im.Desc.Digest {
			return n, nil
		}
	}
	return im, nil
}

// mayBeNydus reports whether an entry of a list of referrers can be a Nydus image. One
// without a type of its own is listed with that of its configuration (distribution-spec,
// "Listing Referrers"), as those are that nydusify makes.
func mayBeNydus(d *Descriptor) bool {
	if !d.IsManifest() {
		return false
	}
	switch d.ArtifactType {
	case "", ArtifactTypeNydus, MediaTypeConfig, MediaTypeDockerConfig, MediaTypeNydusConfig:
		return true
	}
	return false
}

// maxReferrers is how many referrers of an image are looked at.
const maxReferrers = 16

// load parses the manifest and reads the configuration.
func (im *Image) load(ctx context.Context) (err error) {
	if im.Manifest, err = parseManifest(im.RawManifest); err != nil {
		return err
	}
	im.Config = &Config{}
	switch im.Manifest.Config.MediaType {
	case MediaTypeConfig, MediaTypeDockerConfig, MediaTypeNydusConfig:
	default:
		return nil // an artifact, whose configuration is something else
	}
	if im.RawConfig, err = im.repo.small(ctx, im.Manifest.Config, maxConfig); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	im.Config, err = parseConfig(im.RawConfig)
	return err
}

// choose finds the entry of an index that fits best; of several, the first.
func choose(list []Descriptor, o Options) (Descriptor, error) {
	want := ThisPlatform()
	if o.Platform != nil {
		want = *o.Platform
	}
	best, at := 0, -1
	for i := range list {
		d := &list[i]
		if !d.IsManifest() && !d.IsIndex() || d.IsAttestation() {
			continue
		}
		nydus := d.IsNydusManifest()
		if o.Want == WantOCI && nydus {
			continue
		}
		fit := 2 * want.fits(d.Platform)
		if fit > 0 && o.Want == WantNydus && nydus {
			fit += 100
		}
		if fit > best {
			best, at = fit, i
		}
	}
	if at < 0 {
		return Descriptor{}, fmt.Errorf("%w: %s is wanted, there are: %s", ErrPlatform, want, platformsOf(list))
	}
	return list[at], nil
}

// platformsOf lists what there is, for a message.
func platformsOf(list []Descriptor) string {
	var names []string
	for i := range list {
		p := list[i].Platform
		if p == nil || list[i].IsAttestation() || len(names) == maxPlatforms {
			continue
		}
		if name := fmt.Sprintf("%.80s", p); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// maxPlatforms is how many a message lists.
const maxPlatforms = 32

// Repo is the place that the image lies in.
func (im *Image) Repo() *Repo { return im.repo }

// Platform is what the image runs on, by its index or its configuration.
func (im *Image) Platform() Platform {
	if im.Desc.Platform != nil {
		return *im.Desc.Platform
	}
	p := im.Config.Platform
	return p
}

// Open reads a layer or another blob of the image from its beginning. Its bytes are
// what d names only when the reader has said io.EOF.
func (im *Image) Open(ctx context.Context, d Descriptor) (io.ReadCloser, error) {
	rc, err := im.repo.blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", im.Ref, err)
	}
	return rc, nil
}

// find gives the descriptor of the blob with this digest.
func (im *Image) find(d digest.Digest) (Descriptor, bool) {
	for _, l := range im.Manifest.Layers {
		if l.Digest == d {
			return l, true
		}
	}
	return Descriptor{}, false
}
