package oci

import (
	"bytes"
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
)

// A dictionary is a Nydus image whose chunks need not be stored again.
type dictionary struct {
	im   *Image
	boot []byte
}

func openDictionary(ctx context.Context, ref Ref, a Access) (*dictionary, error) {
	im, err := Resolve(ctx, ref, Options{Access: a, Want: WantNydus})
	if err != nil {
		return nil, err
	}
	var boot bytes.Buffer
	if err := im.Bootstrap(ctx, &boot); err != nil {
		im.Close()
		return nil, err
	}
	return &dictionary{im, boot.Bytes()}, nil
}

// id tells dictionaries apart; "" without one.
func (d *dictionary) id() string {
	if d == nil {
		return ""
	}
	return digest.FromBytes(d.boot).String()
}

// image is the dictionary as builds take it, nil without one.
func (d *dictionary) image() *build.Image {
	if d == nil {
		return nil
	}
	return &build.Image{Name: "image.boot", Data: d.boot}
}

// A cacheKey is a layer and how it is converted.
type cacheKey struct {
	source digest.Digest
	recipe string
}

// openCaches lists what images that were converted before say of their blobs. One that
// is not there yet is no error: the first conversion has none.
func (c *converter) openCaches(ctx context.Context) error {
	c.caches = map[cacheKey][]*record{}
	for _, ref := range c.o.Caches {
		im, err := Resolve(ctx, ref, Options{Access: c.o.From, Want: WantNydus})
		if isMissing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cache %s: %w", ref, err)
		}
		c.cacheImages = append(c.cacheImages, im)
		for _, l := range im.BlobLayers() {
			source, err := parseDigest(l.Annotations[AnnotationNydusSourceDigest])
			recipe := l.Annotations[annotationRecipe]
			if err != nil || recipe == "" || l.Size <= 0 {
				continue
			}
			key := cacheKey{source, recipe}
			c.caches[key] = append(c.caches[key], &record{Source: source, Recipe: recipe, Blob: l.Digest, Size: l.Size})
		}
	}
	return nil
}
