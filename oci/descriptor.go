package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Media types, OCI and Docker (image-spec, "media-types.md"; Docker schema 2).
const (
	MediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	MediaTypeConfig         = "application/vnd.oci.image.config.v1+json"
	MediaTypeEmpty          = "application/vnd.oci.empty.v1+json"
	MediaTypeLayer          = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeLayerGzip      = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeLayerZstd      = "application/vnd.oci.image.layer.v1.tar+zstd"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerTar      = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// foreignLayerPrefix begins the media types of layers that may not be distributed.
const foreignLayerPrefix = "application/vnd.oci.image.layer.nondistributable.v1.tar"

// Nydus media types (RAFS, section 7).
const (
	MediaTypeNydusBlob = "application/vnd.oci.image.layer.nydus.blob.v1"
	// ArtifactTypeNydus marks the descriptor of a Nydus manifest in an index.
	ArtifactTypeNydus = "application/vnd.nydus.image.manifest.v1+json"
	// MediaTypeNydusConfig is the configuration's type in such a manifest, so that
	// clients which know no Nydus pass over it.
	MediaTypeNydusConfig = "application/vnd.nydus.image.config.v1+json"
	// OSFeatureNydus is the older mark, in platform["os.features"].
	OSFeatureNydus = "nydus.remoteimage.v1"
)

// Annotations of layers in Nydus manifests (RAFS, section 7.2).
const (
	AnnotationNydusBlob         = "containerd.io/snapshot/nydus-blob"
	AnnotationNydusBootstrap    = "containerd.io/snapshot/nydus-bootstrap"
	AnnotationNydusFSVersion    = "containerd.io/snapshot/nydus-fs-version"
	AnnotationNydusRef          = "containerd.io/snapshot/nydus-ref"
	AnnotationNydusEncrypted    = "containerd.io/snapshot/nydus-encrypted-blob"
	AnnotationNydusSourceDigest = "containerd.io/snapshot/nydus-source-digest"
)

// Annotations of descriptors in a layout's index.
const (
	AnnotationRefName        = "org.opencontainers.image.ref.name"
	annotationContainerdName = "io.containerd.image.name"
)

// A Platform is what an image runs on (image-spec, "image-index.md").
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// A Descriptor names content by its digest.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// A Manifest is one image for one platform.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// An Index is a list of manifests, one per platform, or of other indexes.
type Index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// IsIndex reports whether the descriptor names an index or a manifest list.
func (d *Descriptor) IsIndex() bool {
	return d.MediaType == MediaTypeIndex || d.MediaType == MediaTypeDockerList
}

// IsManifest reports whether the descriptor names the manifest of an image.
func (d *Descriptor) IsManifest() bool {
	return d.MediaType == MediaTypeManifest || d.MediaType == MediaTypeDockerManifest
}

// IsForeign reports whether the layer may not be distributed: registries have only
// its addresses.
func (d *Descriptor) IsForeign() bool {
	return d.MediaType == MediaTypeDockerForeign || strings.HasPrefix(d.MediaType, foreignLayerPrefix)
}

// IsNydusBlob reports whether the layer is a data blob of a Nydus image.
func (d *Descriptor) IsNydusBlob() bool {
	return d.MediaType == MediaTypeNydusBlob || d.Annotations[AnnotationNydusBlob] == "true"
}

// IsNydusBootstrap reports whether the layer holds the bootstrap of a Nydus image.
func (d *Descriptor) IsNydusBootstrap() bool {
	return d.Annotations[AnnotationNydusBootstrap] == "true"
}

// IsNydusManifest reports whether the entry of an index is marked as a Nydus image,
// in either of the ways that converters use.
func (d *Descriptor) IsNydusManifest() bool {
	return d.ArtifactType == ArtifactTypeNydus || d.Platform != nil && slices.Contains(d.Platform.OSFeatures, OSFeatureNydus)
}

// IsAttestation reports whether the entry of an index holds statements about another
// one, as BuildKit adds them.
func (d *Descriptor) IsAttestation() bool {
	return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
}

// NydusRef is the digest of the OCI layer that has the data of this blob layer; ""
// unless it is the metadata of a layer that stays as it is.
func (d *Descriptor) NydusRef() digest.Digest {
	r, err := parseDigest(d.Annotations[AnnotationNydusRef])
	if err != nil {
		return ""
	}
	return r
}

// check refuses what no descriptor can be.
func (d *Descriptor) check(what string) error {
	if _, err := parseDigest(string(d.Digest)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%w: %s %s: size %d", ErrCorrupt, what, d.Digest, d.Size)
	}
	return nil
}
