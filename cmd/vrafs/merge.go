package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vrafs/build"
	"vrafs/internal/cli"
)

// A merge holds the command line of nydus-image merge.
type merge struct {
	cmd           *cli.Command
	sources       []string
	bootstrap     string
	dir           string
	dict          string
	parent        string
	prefetch      string
	list          string
	output        string
	digests       []string
	originals     []string
	sizes         []uint64
	tocDigests    []string
	tocSizes      []uint64
	configuration string
}

// statusInconsistent is the exit status for layers that don't fit together.
const statusInconsistent = 2

func newMerge() *cli.Command {
	m := &merge{prefetch: "none"}
	m.cmd = &cli.Command{
		Name:  "merge",
		About: "Merge the bootstraps of layers into one",
		Args:  []*cli.Arg{{Name: "SOURCE", Help: "Bootstraps, or data blobs with their bootstrap inside, lowest layer first", Required: true, Many: true, Set: cli.Strings(&m.sources)}},
		Options: []*cli.Option{
			{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "File to write the merged bootstrap to", Required: true, Set: cli.Str(&m.bootstrap)},
			{Long: "blob-dir", Short: 'D', Value: "blob-dir", Help: "Directory of the data blobs", Set: cli.Str(&m.dir)},
			{Long: "chunk-dict", Value: "chunk-dict", Help: "Image whose blobs the layers refer to: bootstrap=FILE, or the file alone", Set: cli.Str(&m.dict)},
			{Long: "parent-bootstrap", Value: "parent-bootstrap", Help: "Image below the lowest layer", Set: cli.Str(&m.parent)},
			prefetchOption(&m.prefetch), prefetchListOption(&m.list),
			outputOption(&m.output),
			{Long: "blob-digests", Value: "blob-digests", Help: "Digest of each layer's blob in the registry, separated by commas", Set: cli.List(&m.digests)},
			{Long: "original-blob-ids", Value: "original-blob-ids", Help: "Blob id of each layer, separated by commas", Set: cli.List(&m.originals)},
			{Long: "blob-sizes", Value: "blob-sizes", Help: "Size of each layer's blob, separated by commas", Set: cli.Uints(&m.sizes)},
			{Long: "blob-toc-digests", Value: "blob-toc-digests", Help: "Digest of each blob's table of contents, separated by commas", Set: cli.List(&m.tocDigests)},
			{Long: "blob-toc-sizes", Value: "blob-toc-sizes", Help: "Size of each blob's table of contents, separated by commas", Set: cli.Uints(&m.tocSizes)},
			{Long: "config", Short: 'C', Value: "config", Help: "Configuration file (JSON or TOML) whose back end has the data blobs", Set: cli.Str(&m.configuration)},
		},
		After: m.check,
		Run:   m.run,
	}
	return m.cmd
}

// check compares the lengths of the lists.
func (m *merge) check() error {
	for _, l := range []struct {
		name string
		n    int
	}{
		{"blob-digests", len(m.digests)},
		{"original-blob-ids", len(m.originals)},
		{"blob-sizes", len(m.sizes)},
		{"blob-toc-digests", len(m.tocDigests)},
		{"blob-toc-sizes", len(m.tocSizes)},
	} {
		if l.n != 0 && l.n != len(m.sources) {
			return cli.Usagef(m.cmd, "'--%s <%s>' has %d entries for %d sources", l.name, l.name, l.n, len(m.sources))
		}
	}
	return nil
}

func (m *merge) run(ctx context.Context, env *cli.Env) error {
	var o build.MergeOptions
	var err error
	if m.configuration != "" {
		if _, err := readConfig(m.configuration); err != nil {
			return err
		}
		o.HaveBackend = true
	}
	if o.Prefetch, err = readPrefetch(env, m.prefetch, m.list); err != nil {
		return err
	}
	closeInputs, err := openInputs(input{m.parent, &o.Parent}, input{dictPath(m.dict), &o.ChunkDict})
	if err != nil {
		return err
	}
	defer closeInputs()
	layers, closeLayers, err := m.layers()
	if err != nil {
		return err
	}
	defer closeLayers()
	r, err := build.Merge(ctx, layers, build.Sink{Bootstrap: m.bootstrap}, o)
	if err != nil {
		if errors.Is(err, build.ErrInconsistent) {
			env.Log.Error("message:Inconsistent RAFS Filesystem: " + strings.TrimPrefix(err.Error(), build.ErrInconsistent.Error()+": "))
			return &cli.StatusError{Status: statusInconsistent, Err: err}
		}
		return fmt.Errorf("merge: %w", err)
	}
	return writeJSON(m.output, newOutput(r), true)
}

// layers opens the sources and attaches what the lists say.
func (m *merge) layers() ([]build.Layer, func(), error) {
	images, closeAll, err := openAll(m.sources)
	if err != nil {
		return nil, nil, err
	}
	layers := make([]build.Layer, len(images))
	for i := range layers {
		l := &layers[i]
		l.Image = images[i]
		l.BlobDigest, l.OriginalBlobID = nth(m.digests, i), nth(m.originals, i)
		l.TOCDigest, l.BlobSize = nth(m.tocDigests, i), nth(m.sizes, i)
		l.TOCSize = nth(m.tocSizes, i)
	}
	return layers, closeAll, nil
}

// nth is entry i of a list that may be absent.
func nth[T any](list []T, i int) T {
	var zero T
	if len(list) == 0 {
		return zero
	}
	return list[i]
}
