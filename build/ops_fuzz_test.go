package build

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"vrafs/backend"
	"vrafs/internal/chunkread"
	"vrafs/internal/codec"
	"vrafs/rafs"
)

// zeroBlobs finds every blob and reads nothing but zeros from it.
type zeroBlobs struct{}

func (zeroBlobs) Open(context.Context, string) (backend.Blob, error) { return zeroBlob{}, nil }

type zeroBlob struct{}

func (zeroBlob) ReadAt(_ context.Context, p []byte, _ uint64) (int, error) { return len(p), nil }
func (zeroBlob) Size(context.Context) (uint64, error)                      { return 1 << 40, nil }
func (zeroBlob) Close() error                                              { return nil }

// noDisk takes everything.
type noDisk struct{}

func (noDisk) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (noDisk) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (noDisk) Truncate(int64) error                   { return nil }

// FuzzOperations runs every operation on arbitrary bytes as a bootstrap. Each must
// end in a result or an error that says whose fault it is, without a panic and in
// time and memory that the size of the bootstrap bounds.
func FuzzOperations(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<17 {
			return
		}
		im := Image{Name: strings.Repeat("ab", 32), Data: data, Blobs: zeroBlobs{}}
		ctx := context.Background()
		sink := func() Sink { return Sink{BlobDir: t.TempDir(), BootstrapWriter: io.Discard} }
		_, merge := Merge(ctx, []Layer{{Image: im}, {Image: im}}, sink(), MergeOptions{})
		_, export := ExportBlock(ctx, im, noDisk{}, ExportOptions{Threads: 2})
		_, compact := Compact(ctx, im, sink(), CompactOptions{MinUsedRatio: 99, CompactBlobSize: 1 << 40, MaxCompactSize: 1 << 40})
		_, optimize := Optimize(ctx, im, []PrefetchFile{{Path: "/"}, {Path: "/a"}}, sink())
		_, stat := Stat(ctx, []Image{im}, &im, StatOptions{})
		_, dict := ChunkDict(ctx, []Image{im, im}, sink(), ChunkDictOptions{})
		for name, err := range map[string]error{
			"merge": merge, "export": export, "compact": compact, "optimize": optimize, "stat": stat, "dict": dict,
			"unpack": Unpack(ctx, im, io.Discard, UnpackOptions{Workers: 2}),
		} {
			if err != nil && !known(err) {
				t.Errorf("%s: error of no class: %v", name, err)
			}
			if err != nil && strings.Contains(err.Error(), "check the result") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// known reports whether an error is of one of the documented classes.
func known(err error) bool {
	for _, class := range []error{rafs.ErrCorrupt, rafs.ErrUnsupported, ErrSource, ErrInconsistent, chunkread.ErrDigest, chunkread.ErrUnverified, codec.ErrData} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}
