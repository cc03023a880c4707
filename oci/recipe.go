package oci

import (
	"fmt"
	"runtime"

	"vrafs/build"
	"vrafs/rafs"
)

// recipeVersion counts up whenever package build makes other bytes of the same layer:
// conversions of before are not found again then.
const recipeVersion = 1

// A Recipe says what Nydus images are made of layers.
type Recipe struct {
	Version    rafs.Version
	Compressor rafs.Compressor
	Digester   rafs.Digester
	ChunkSize  uint32
	BatchSize  uint32 // 0: no batches
	Aligned    bool   // chunks of v5 at multiples of 4 KiB
	// Ref leaves the data in the layers as they are: gzip or plain tars, to which the new
	// layers only add where everything is.
	Ref bool
	// Encrypt encrypts blobs, with keys that lie in the bootstrap. No two conversions are
	// alike then, and none is found again.
	Encrypt bool
	// Prefetch are the paths that a start reads first.
	Prefetch []string
}

// DefaultRecipe is what nydusify makes: RAFS v6, zstd, BLAKE3, chunks of 1 MiB, and the
// whole image to be prefetched.
func DefaultRecipe() Recipe {
	return Recipe{Version: rafs.V6, Compressor: rafs.CompressorZstd, Digester: rafs.DigesterBLAKE3, ChunkSize: build.DefaultChunkSize, Prefetch: []string{"/"}}
}

// layer is everything that decides the bytes of a layer's conversion, as text. dict is
// the digest of the chunk dictionary.
func (r *Recipe) layer(dict string) string {
	s := fmt.Sprintf("%d v%d %v %v %#x %#x", recipeVersion, r.Version, r.Compressor, r.Digester, r.ChunkSize, r.BatchSize)
	if r.Aligned {
		s += " aligned"
	}
	if r.Ref {
		s += " ref"
	}
	if dict != "" {
		s += " dict=" + dict
	}
	return s
}

// buildWorkers is how many goroutines compress one layer: memory grows with them.
func buildWorkers() int { return min(4, runtime.GOMAXPROCS(0)) }

// options are those of building one layer.
func (r *Recipe) options(dict *build.Image) build.Options {
	return build.Options{
		Version: r.Version, Compressor: r.Compressor, Digester: r.Digester, ChunkSize: r.ChunkSize, BatchSize: r.BatchSize,
		AlignedChunk: r.Aligned, Encrypt: r.Encrypt,
		InlineMeta: true, BlobTOC: r.Version == rafs.V6, Whiteout: build.WhiteoutNone,
		// What is read first is a matter of the whole image, so that layers can be shared by
		// images that differ in it.
		Prefetch:  build.Prefetch{Policy: build.PrefetchFS, Patterns: []string{"/"}},
		ChunkDict: dict, Workers: buildWorkers(),
	}
}
