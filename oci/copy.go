package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// CopyOptions are the options of Copy.
type CopyOptions struct {
	// From and To say how the places are reached.
	From, To Access
	// Platforms chooses images out of an index; empty takes all there are. One platform
	// makes a single image of it, several an index.
	Platforms []Platform
	// Nondistributable copies layers that may not be distributed, too. Otherwise those
	// that have an address elsewhere are only named.
	Nondistributable bool
	// Parallel is how many blobs are on their way at a time; 0 chooses.
	Parallel int
	Progress *Progress
}

// A CopyResult says what Copy did.
type CopyResult struct {
	// Ref is the image by its digest, Digest that of its manifest or index.
	Ref       Ref
	Digest    digest.Digest
	Manifests int   // images copied
	Blobs     int   // blobs sent
	Bytes     int64 // of them
	Found     int   // blobs that were there already, or were mounted
}

// copyParallel is how many blobs are on their way unless told otherwise: enough to hide
// round trips, while each holds two parts in memory.
const copyParallel = 3

// Copy copies the image or index that src names to dst, byte for byte, so that digests
// stay. Blobs that are there are not sent again, and the name comes last: a copy that
// was interrupted goes on where it was, and nobody sees it before it is whole.
func Copy(ctx context.Context, src, dst Ref, o CopyOptions) (*CopyResult, error) {
	r, err := openRoute(ctx, src, dst, routeOptions{from: o.From, to: o.To, parallel: o.Parallel, usual: copyParallel, progress: o.Progress})
	if err != nil {
		return nil, err
	}
	defer r.close()
	c := newCopier(r, o)
	raw, d, err := c.root(ctx)
	if err == nil {
		c.res.Ref, c.res.Digest, err = r.finish(ctx, raw, d)
	}
	if err != nil {
		return nil, fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return &c.res, nil
}

// A copier is one copy under way.
type copier struct {
	*route
	o CopyOptions

	done map[digest.Digest]bool // manifests and indexes, and all below them

	mu   sync.Mutex
	seen map[digest.Digest]bool // blobs
	res  CopyResult
}

func newCopier(r *route, o CopyOptions) *copier {
	return &copier{route: r, o: o, done: map[digest.Digest]bool{}, seen: map[digest.Digest]bool{}}
}

// root copies everything below what the reference names, and returns the document that
// is to be named.
func (c *copier) root(ctx context.Context) ([]byte, Descriptor, error) {
	raw, d, err := c.from.document(ctx, c.src, nil)
	if err != nil {
		return nil, d, err
	}
	if d.IsIndex() && len(c.o.Platforms) > 0 {
		if raw, d, err = c.subset(ctx, raw, d); err != nil {
			return nil, d, err
		}
	} else if len(c.o.Platforms) > 0 {
		if err := c.fits(ctx, raw, d); err != nil {
			return nil, d, err
		}
	}
	return raw, d, c.below(ctx, raw, d, 0)
}

// fits refuses an image that is for none of the wanted platforms.
func (c *copier) fits(ctx context.Context, raw []byte, d Descriptor) error {
	im := &Image{Ref: c.src, Desc: d, RawManifest: raw, repo: c.from}
	if err := im.load(ctx); err != nil {
		return err
	}
	have := im.Platform()
	for _, p := range c.o.Platforms {
		if have.OS == "" || p.fits(&have) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is wanted, the only image is for %s", ErrPlatform, c.o.Platforms[0], have)
}

// subset makes an index of the wanted platforms; of one with a single image, that.
func (c *copier) subset(ctx context.Context, raw []byte, d Descriptor) ([]byte, Descriptor, error) {
	x, err := parseIndex(raw)
	if err != nil {
		return nil, d, err
	}
	list, err := selected(x.Manifests, c.o.Platforms)
	if err != nil {
		return nil, d, err
	}
	if len(list) == 1 {
		return c.from.document(ctx, c.src.WithDigest(list[0].Digest), &list[0])
	}
	x.Manifests = list
	return encode(x, d.MediaType)
}

// selected is the entries of an index for the platforms, in the order of the index.
func selected(list []Descriptor, platforms []Platform) ([]Descriptor, error) {
	take := map[int]bool{}
	for _, p := range platforms {
		found := false
		best := 0
		for i := range list {
			if list[i].Platform != nil && !list[i].IsAttestation() {
				best = max(best, p.fits(list[i].Platform))
			}
		}
		for i := range list {
			if e := &list[i]; best > 0 && e.Platform != nil && !e.IsAttestation() && p.fits(e.Platform) == best {
				take[i], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w: %s is wanted, there are: %s", ErrPlatform, p, platformsOf(list))
		}
	}
	var out []Descriptor
	for i := range list {
		if take[i] {
			out = append(out, list[i])
		}
	}
	return out, nil
}

// below copies what a document names: the deepest first.
func (c *copier) below(ctx context.Context, raw []byte, d Descriptor, depth int) error {
	if !d.IsIndex() {
		return c.image(ctx, raw, d)
	}
	if depth == 4 {
		return fmt.Errorf("%w: an index in an index in an index", ErrUnsupported)
	}
	x, err := parseIndex(raw)
	if err != nil {
		return err
	}
	for i := range x.Manifests {
		e := &x.Manifests[i]
		if !e.IsIndex() && !e.IsManifest() {
			if err := c.blob(ctx, *e); err != nil {
				return err
			}
			continue
		}
		if err := c.entry(ctx, e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// maxDocuments is how many manifests and indexes are copied at most.
const maxDocuments = 4 * maxEntries

// entry copies an entry of an index, once: a few indexes that name each other many times
// would be copied for ever.
func (c *copier) entry(ctx context.Context, e *Descriptor, depth int) error {
	if c.done[e.Digest] {
		return nil
	}
	if len(c.done) == maxDocuments {
		return fmt.Errorf("%w: indexes of more than %d images", ErrUnsupported, maxDocuments)
	}
	raw, d, err := c.from.document(ctx, c.src.WithDigest(e.Digest), e)
	if err != nil {
		return err
	}
	if err := c.below(ctx, raw, d, depth); err != nil {
		return fmt.Errorf("%s: %w", label(e), err)
	}
	c.done[e.Digest] = true
	return c.to.putManifest(ctx, raw, d)
}

// label names an entry of an index in messages.
func label(d *Descriptor) string {
	if d.Platform != nil {
		return d.Platform.String()
	}
	return d.Digest.String()
}

// image copies configuration and layers.
func (c *copier) image(ctx context.Context, raw []byte, d Descriptor) error {
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	blobs := append([]Descriptor{m.Config}, m.Layers...)
	err = each(ctx, len(blobs), c.parallel, func(ctx context.Context, i int) error {
		if err := c.blob(ctx, blobs[i]); err != nil {
			return fmt.Errorf("%s: %w", blobLabel(i, m), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.res.Manifests++
	c.progress.tell(Event{What: "manifest", Name: d.Digest.String(), State: StateDone, Total: d.Size, Done: d.Size})
	return nil
}

// blobLabel names blob i of configuration and layers in messages.
func blobLabel(i int, m *Manifest) string {
	if i == 0 {
		return "configuration"
	}
	return fmt.Sprintf("layer %d of %d", i, len(m.Layers))
}

// blob copies a blob unless it was copied, is there, or can be mounted.
func (c *copier) blob(ctx context.Context, d Descriptor) error {
	c.mu.Lock()
	twice := c.seen[d.Digest]
	c.seen[d.Digest] = true
	c.mu.Unlock()
	if twice {
		return nil
	}
	state, err := StateSkipped, error(nil)
	if !d.IsForeign() || len(d.URLs) == 0 || c.o.Nondistributable {
		state, err = transfer(ctx, c.from, c.to, d, c.progress)
	}
	if err != nil {
		return err
	}
	c.progress.tell(Event{What: "blob", Name: d.Digest.String(), State: state, Done: d.Size, Total: d.Size})
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == StateDone {
		c.res.Blobs++
		c.res.Bytes += d.Size
	} else {
		c.res.Found++
	}
	return nil
}

// transfer makes the blob d of from one of to.
func transfer(ctx context.Context, from *Repo, to target, d Descriptor, p *Progress) (State, error) {
	there, err := to.has(ctx, d)
	if err != nil {
		return "", err
	}
	if there {
		return StateExists, nil
	}
	if mounted, err := to.mount(ctx, d, from.ref); err != nil || mounted {
		return StateMounted, err
	}
	return StateDone, persist(func() error { return send(ctx, from, to, d, p) })
}

// persist does again what a lost upload has spoilt.
func persist(f func() error) error {
	for n := 0; ; n++ {
		if err := f(); n == 2 || !errors.Is(err, errUploadLost) {
			return err
		}
	}
}

// send reads the blob and uploads it.
func send(ctx context.Context, from *Repo, to target, d Descriptor, p *Progress) error {
	rc, err := from.blob(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	u, err := to.upload(ctx)
	if err != nil {
		return err
	}
	defer u.abort()
	r := p.reading(rc, Event{What: "blob", Name: d.Digest.String(), Total: d.Size})
	if _, err := io.CopyBuffer(u, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return err
	}
	return u.commit(ctx, d.Digest, d.Size)
}
