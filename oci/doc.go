// Package oci is OCI images in and out of registries, layouts and archives, and
// their conversion to Nydus images and back.
//
//	Ref ----Open----> Repo -----Resolve----> Image: manifest, configuration, layers
//	registry           | manifests, blobs      |
//	oci:dir            |                       +-- Bootstrap: the merged metadata of a Nydus image
//	oci-archive:file   |                       +-- Blobs: ranged reads of its data
//	docker-archive:f   +---- Copy, Convert ----> another Repo
//
// A Nydus image is an OCI image whose last layer holds a bootstrap; the layers
// before it are data blobs (RAFS, section 7):
//
//	layers  [ blob of source layer 1 | ... | blob of source layer n | bootstrap.tar.gz ]
//	            image.blob, blob.meta, ..., image.boot, ToC              image/image.boot
//
// Trust: what comes from a registry, layout or archive is hostile. Manifests and
// configurations are bounded, and compared with their digest where one is known;
// a blob read from its beginning is compared with its digest and size before its
// reader says io.EOF. Ranged reads are not verified: their user compares chunks.
// Archives are read in place, nothing in them is ever unpacked to a path they name.
// Credentials are sent to the registry they are for and to its token server, and
// appear in no error and no log.
//
// Concurrency: a Repo and an Image may be used by several goroutines. Every call
// waits for the goroutines it started.
//
// Source: OCI image specification 1.1, OCI distribution specification 1.1, Docker
// image manifest version 2 schema 2, RAFS section 7.
package oci
