package blobcache

import (
	"fmt"
	"strings"

	"vrafs/internal/opener"
)

// Names of the files of a blob (section 5).
const (
	dataSuffix    = ".blob.data"
	mapSuffix     = ".blob.data.chunk_map"
	metaSuffix    = ".blob.meta"
	digestSuffix  = ".blob.digest"
	sidecarSuffix = ".chunk_map" // a name of old nydusds, which nydus-snapshotter removes with the others
)

// Uncompressed is the directory in a cache directory where our chunks are while those of
// a nydusd are kept compressed beside it. A Limit of the one is one of the other.
const Uncompressed = "uncompressed"

// fileName refuses, with an error of class opener.ErrName, ids that can't be the
// beginning of file names. After one that ends in .blob.data the sidecar would have
// the name of another blob's chunk map.
func fileName(id string) error {
	if id == "" || strings.HasSuffix(id, dataSuffix) {
		return fmt.Errorf("%w: %.64q", opener.ErrName, id)
	}
	return opener.Name(id + mapSuffix)
}

// suffixes are those of all files of a blob; the longer of two that fit comes first.
var suffixes = []string{mapSuffix, dataSuffix, metaSuffix, digestSuffix, sidecarSuffix}
