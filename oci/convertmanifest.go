package oci

import (
	"context"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// What converters write into the history (RAFS, section 7.1).
const (
	historyCreatedBy = "Nydus Converter"
	historyBootstrap = "Nydus Bootstrap Layer"
	historyDict      = "Nydus Chunk Dictionary Layer"
)

// annotationRecipe says how the blobs of a Nydus image were made of the layers that
// AnnotationNydusSourceDigest names, so that the image can serve as a cache.
const annotationRecipe = "io.vrafs.recipe"

// manifest puts the bootstrap layer and the configuration into the target and gives the
// manifest of the Nydus image. blobs are the ids that the bootstrap refers to.
func (c *converter) manifest(ctx context.Context, im *Image, layers []*convertedLayer, boot []byte, blobs []string) (*Manifest, error) {
	m := &Manifest{SchemaVersion: 2, MediaType: MediaTypeManifest}
	configType, bootType := MediaTypeConfig, MediaTypeLayerGzip
	if c.o.Docker {
		m.MediaType, configType, bootType = MediaTypeDockerManifest, MediaTypeDockerConfig, MediaTypeDockerLayer
	}
	if c.o.MergePlatform {
		configType = MediaTypeNydusConfig
	}
	var diffIDs []digest.Digest
	add := func(d Descriptor, diffID digest.Digest) {
		m.Layers, diffIDs = append(m.Layers, d), append(diffIDs, diffID)
	}
	for _, l := range layers {
		add(c.blobDescriptor(l), l.Blob)
	}
	history := append([]History(nil), im.Config.History...)
	dict, err := c.dictLayers(ctx, layers, blobs)
	if err != nil {
		return nil, err
	}
	for _, d := range dict {
		add(d, d.Digest)
		history = append(history, History{CreatedBy: historyCreatedBy, Comment: historyDict})
	}
	raw, diffID, err := bootstrapLayer(boot)
	if err != nil {
		return nil, err
	}
	d := Descriptor{MediaType: bootType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Annotations: map[string]string{
		AnnotationNydusBootstrap: "true", AnnotationNydusFSVersion: strconv.Itoa(int(c.o.Recipe.Version)),
	}}
	if err := put(ctx, c.to, raw, d); err != nil {
		return nil, fmt.Errorf("bootstrap layer: %w", err)
	}
	add(d, diffID)
	history = append(history, History{CreatedBy: historyCreatedBy, Comment: historyBootstrap})
	if raw, err = rewriteConfig(im.RawConfig, diffIDs, history); err != nil {
		return nil, err
	}
	m.Config = Descriptor{MediaType: configType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := put(ctx, c.to, raw, m.Config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.o.Referrer {
		m.Subject = &Descriptor{MediaType: im.Desc.MediaType, Digest: im.Desc.Digest, Size: im.Desc.Size}
		m.ArtifactType = ArtifactTypeNydus
	}
	return m, nil
}

// blobDescriptor names the blob of a converted layer.
func (c *converter) blobDescriptor(l *convertedLayer) Descriptor {
	d := Descriptor{MediaType: MediaTypeNydusBlob, Digest: l.Blob, Size: l.Size, Annotations: map[string]string{AnnotationNydusBlob: "true"}}
	switch {
	case c.o.Recipe.Encrypt:
		d.Annotations[AnnotationNydusEncrypted] = "true"
	default:
		d.Annotations[AnnotationNydusSourceDigest] = l.Source.String()
		d.Annotations[annotationRecipe] = l.Recipe
	}
	if c.o.Recipe.Ref {
		d.Annotations[AnnotationNydusRef] = l.Source.String()
	}
	return d
}

// dictLayers are the blobs of the chunk dictionary that the bootstrap refers to, brought
// into the target.
func (c *converter) dictLayers(ctx context.Context, layers []*convertedLayer, blobs []string) ([]Descriptor, error) {
	own := map[string]bool{}
	for _, l := range layers {
		own[l.Blob.Encoded()], own[l.Source.Encoded()] = true, true
	}
	var list []Descriptor
	for _, id := range blobs {
		if own[id] {
			continue
		}
		if c.dict == nil {
			return nil, fmt.Errorf("%w: the bootstrap refers to blob %s, which no layer is", ErrCorrupt, id)
		}
		d, ok := c.dict.im.find(digest.NewDigestFromEncoded(digest.SHA256, id))
		if !ok {
			return nil, fmt.Errorf("%w: chunk dictionary %s refers to blob %s, which it does not list", ErrCorrupt, c.o.ChunkDict, id)
		}
		if _, err := transfer(ctx, c.dict.im.repo, c.to, d, c.progress); err != nil {
			return nil, fmt.Errorf("blob %s of the chunk dictionary: %w", id, err)
		}
		list = append(list, Descriptor{MediaType: MediaTypeNydusBlob, Digest: d.Digest, Size: d.Size, Annotations: map[string]string{AnnotationNydusBlob: "true"}})
	}
	return list, nil
}
