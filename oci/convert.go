package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
)

// ConvertOptions are the options of Convert.
type ConvertOptions struct {
	// From and To say how the places are reached; From also those of ChunkDict and Caches.
	From, To Access
	Recipe   Recipe
	// Platforms are those to convert out of an index; empty is this machine's, unless
	// AllPlatforms is set.
	Platforms    []Platform
	AllPlatforms bool
	// ChunkDict is a Nydus image whose chunks are not stored again.
	ChunkDict *Ref
	// Caches are Nydus images whose layers are used again if they were made of the same
	// layers in the same way. They are believed.
	Caches []Ref
	// Records is the directory where conversions of layers are remembered; "" is none.
	Records string
	// MergePlatform makes an index that has the OCI images too, so that one reference
	// serves nodes with and without Nydus.
	MergePlatform bool
	// Referrer lets the Nydus manifest refer to the OCI manifest, by which clients that
	// pull that find it.
	Referrer bool
	// Docker makes a Docker manifest instead of an OCI one.
	Docker bool
	// Parallel is how many layers are converted at a time; 0 chooses.
	Parallel int
	Progress *Progress
}

// A ConvertResult says what Convert made.
type ConvertResult struct {
	// Ref is the image by its digest, Digest that of its manifest or index.
	Ref    Ref
	Digest digest.Digest
	Images []ConvertedImage
}

// A ConvertedImage is the image of one platform.
type ConvertedImage struct {
	Platform       string
	Source, Digest digest.Digest // of manifests
	SourceSize     int64         // bytes of its layers
	Size           int64         // bytes of all layers of the result
	Reused         int           // layers whose conversion was there
	Layers         int           // of the source
}

// convertParallel is how many layers are converted at a time unless told otherwise:
// each takes memory, and one alone keeps a few processors busy.
const convertParallel = 2

// Convert makes Nydus images of the OCI or Docker images that src names, and gives them
// the name dst. Layers are read, converted and uploaded in one stream. The same image
// and recipe give the same digests, whatever is found, wherever it was interrupted, and
// however many layers are converted at a time.
func Convert(ctx context.Context, src, dst Ref, o ConvertOptions) (*ConvertResult, error) {
	others := slices.Clone(o.Caches)
	if o.ChunkDict != nil {
		others = append(others, *o.ChunkDict)
	}
	r, err := openRoute(ctx, src, dst, routeOptions{from: o.From, to: o.To, parallel: o.Parallel, usual: convertParallel, progress: o.Progress, others: others})
	if err != nil {
		return nil, err
	}
	defer r.close()
	c := &converter{route: r, o: o, records: records{o.Records}}
	defer c.close()
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", src, dst, err)
	}
	return &c.res, nil
}

// A converter is one conversion under way.
type converter struct {
	*route
	o           ConvertOptions
	dict        *dictionary // nil if there is none
	records     records
	cacheImages []*Image
	caches      map[cacheKey][]*record
	res         ConvertResult
}

// open opens the chunk dictionary and the caches.
func (c *converter) open(ctx context.Context) (err error) {
	if c.o.ChunkDict != nil {
		if c.dict, err = openDictionary(ctx, *c.o.ChunkDict, c.o.From); err != nil {
			return fmt.Errorf("chunk dictionary: %w", err)
		}
	}
	return c.openCaches(ctx)
}

// close releases the chunk dictionary and the caches.
func (c *converter) close() {
	if c.dict != nil {
		c.dict.im.Close()
	}
	for _, im := range c.cacheImages {
		im.Close()
	}
}

// run converts every image that is wanted, and names the result at the end.
func (c *converter) run(ctx context.Context) error {
	raw, d, err := c.from.document(ctx, c.src, nil)
	if err != nil {
		return err
	}
	sources := []Descriptor{d}
	if d.IsIndex() {
		if sources, err = c.wanted(raw); err != nil {
			return err
		}
	}
	var made []Descriptor
	places := map[digest.Digest]int{} // in made
	for i := range sources {
		s := sources[i]
		if n, ok := places[s.Digest]; ok {
			made = append(made, c.res.another(made[n], s.Digest, s.Platform))
			continue
		}
		places[s.Digest] = i
		im, err := c.from.imageOf(ctx, c.src, &s)
		if err == nil {
			raw, d, err = c.image(ctx, im)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", label(&s), err)
		}
		if err := c.to.putManifest(ctx, raw, d); err != nil {
			return err
		}
		if c.o.Referrer {
			if err := addReferrer(ctx, c.to, im.Desc.Digest, d); err != nil {
				return fmt.Errorf("%s: referrer: %w", label(&s), err)
			}
		}
		made = append(made, d)
	}
	if raw, d, err = c.root(ctx, sources, made, raw, d); err != nil {
		return err
	}
	c.res.Ref, c.res.Digest, err = c.finish(ctx, raw, d)
	return err
}

// another is a conversion that was made for one platform as that for another: one source
// may be the image of several. p may be nil.
func (r *ConvertResult) another(d Descriptor, source digest.Digest, p *Platform) Descriptor {
	if p == nil {
		return d
	}
	d.Platform = p
	for _, made := range r.Images {
		if made.Source == source {
			made.Platform = p.String()
			r.Images = append(r.Images, made)
			break
		}
	}
	return d
}

// wanted is the manifests of an index that are to be converted, each once for a platform.
func (c *converter) wanted(raw []byte) ([]Descriptor, error) {
	x, err := parseIndex(raw)
	if err != nil {
		return nil, err
	}
	type entry struct {
		digest   digest.Digest
		platform string
	}
	seen := map[entry]bool{}
	list := slices.DeleteFunc(slices.Clone(x.Manifests), func(d Descriptor) bool {
		e := entry{digest: d.Digest}
		if d.Platform != nil {
			e.platform = d.Platform.String()
		}
		skip := !d.IsManifest() || d.IsAttestation() || d.IsNydusManifest() || seen[e]
		seen[e] = true
		return skip
	})
	if !c.o.AllPlatforms {
		platforms := c.o.Platforms
		if len(platforms) == 0 {
			platforms = []Platform{ThisPlatform()}
		}
		if list, err = selected(list, platforms); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the index has no image that could be converted", ErrUnsupported)
	}
	return list, nil
}

// root is the document that gets the name: the manifest, or an index if there are
// several or the OCI images belong to it.
func (c *converter) root(ctx context.Context, sources, made []Descriptor, raw []byte, d Descriptor) ([]byte, Descriptor, error) {
	if len(made) == 1 && !c.o.MergePlatform {
		return raw, d, nil
	}
	x := newIndex(c.o.Docker)
	if c.o.MergePlatform {
		copier := newCopier(c.route, CopyOptions{})
		for i := range sources {
			s := &sources[i]
			if err := copier.entry(ctx, s, 0); err != nil {
				return nil, d, fmt.Errorf("copy the OCI image: %w", err)
			}
			x.Manifests = append(x.Manifests, Descriptor{MediaType: s.MediaType, Digest: s.Digest, Size: s.Size, Platform: made[i].Platform})
		}
	}
	for _, d := range made {
		if c.o.MergePlatform {
			// Both ways of telling that clients look for.
			p := *d.Platform
			p.OSFeatures = append(slices.Clone(p.OSFeatures), OSFeatureNydus)
			d.Platform, d.ArtifactType = &p, ArtifactTypeNydus
		}
		d.Annotations = nil
		x.Manifests = append(x.Manifests, d)
	}
	return encode(x, x.MediaType)
}

// image converts one image and gives its manifest.
func (c *converter) image(ctx context.Context, im *Image) ([]byte, Descriptor, error) {
	var none Descriptor
	if err := convertible(im); err != nil {
		return nil, none, err
	}
	layers, reused, err := c.layers(ctx, im)
	if err != nil {
		return nil, none, err
	}
	boot, blobs, err := c.merged(ctx, layers)
	if err != nil {
		if errors.Is(err, build.ErrInconsistent) && c.dict != nil {
			err = fmt.Errorf("chunk dictionary %s does not fit the options: %w", c.o.ChunkDict, err)
		}
		return nil, none, err
	}
	m, err := c.manifest(ctx, im, layers, boot, blobs)
	if err != nil {
		return nil, none, err
	}
	raw, d, err := encode(m, m.MediaType)
	if err != nil {
		return nil, none, err
	}
	p := im.Platform()
	d.Platform, d.ArtifactType = &p, m.ArtifactType
	made := ConvertedImage{Platform: p.String(), Source: im.Desc.Digest, Digest: d.Digest, Layers: len(im.Manifest.Layers), Reused: reused}
	made.SourceSize, made.Size = im.Manifest.LayersSize(), m.LayersSize()
	c.res.Images = append(c.res.Images, made)
	return raw, d, nil
}

// convertible refuses what is no container image, or is one already.
func convertible(im *Image) error {
	switch {
	case im.IsNydus():
		return fmt.Errorf("%w: it is a Nydus image already: copy it instead", ErrUnsupported)
	case im.RawConfig == nil || im.Manifest.Config.MediaType == MediaTypeNydusConfig:
		return fmt.Errorf("%w: it is no container image, its configuration is %.100q", ErrUnsupported, im.Manifest.Config.MediaType)
	case len(im.Config.RootFS.DiffIDs) != len(im.Manifest.Layers):
		return fmt.Errorf("%w: %d layers, the configuration has %d", ErrCorrupt, len(im.Manifest.Layers), len(im.Config.RootFS.DiffIDs))
	}
	return nil
}

// layers converts the layers of an image, each distinct one once.
func (c *converter) layers(ctx context.Context, im *Image) (all []*convertedLayer, reused int, err error) {
	place := map[digest.Digest]int{} // in distinct
	var distinct []Descriptor
	for _, l := range im.Manifest.Layers {
		if _, ok := place[l.Digest]; !ok {
			place[l.Digest] = len(distinct)
			distinct = append(distinct, l)
		}
	}
	done := make([]*convertedLayer, len(distinct))
	err = each(ctx, len(distinct), c.parallel, func(ctx context.Context, i int) error {
		l, err := c.layer(ctx, im, distinct[i])
		if err == nil && c.o.Recipe.Ref {
			_, err = transfer(ctx, c.from, c.to, distinct[i], c.progress)
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", distinct[i].Digest, err)
		}
		done[i] = l
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for _, l := range im.Manifest.Layers {
		all = append(all, done[place[l.Digest]])
	}
	for _, l := range done {
		if l.reused {
			reused++
		}
	}
	return all, reused, nil
}
