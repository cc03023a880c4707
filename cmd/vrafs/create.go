package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/internal/cli"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// sourceTypes are the values of --type: what clients look for in the help, with
// the old names.
var sourceTypes = []struct {
	name string
	typ  build.SourceType
}{
	{"directory", build.TypeDirectory},
	{"dir-rafs", build.TypeDirectory},
	{"estargz-rafs", build.TypeEStargz},
	{"estargz-ref", build.TypeEStargzRef},
	{"estargztoc-ref", build.TypeEStargzIndex},
	{"tar-rafs", build.TypeTar},
	{"tar-tarfs", build.TypeTarfs},
	{"targz-rafs", build.TypeTar},
	{"targz-ref", build.TypeTarRef},
	{"stargz_index", build.TypeEStargzIndex},
}

func typeNames() []string {
	var names []string
	for _, t := range sourceTypes {
		names = append(names, t.name)
	}
	return names
}

// compressors are the values of --compressor.
var compressors = map[string]rafs.Compressor{
	"none": rafs.CompressorNone, "lz4_block": rafs.CompressorLZ4, "zstd": rafs.CompressorZstd,
}

// digesters are the values of --digester.
var digesters = map[string]rafs.Digester{"blake3": rafs.DigesterBLAKE3, "sha256": rafs.DigesterSHA256}

// whiteouts are the values of --whiteout-spec.
var whiteouts = map[string]build.WhiteoutSpec{
	"oci": build.WhiteoutOCI, "overlayfs": build.WhiteoutOverlayfs, "none": build.WhiteoutNone,
}

// A create holds the command line of nydus-image create.
type create struct {
	cmd        *cli.Command
	source     string
	kind       string
	compressor string
	digester   string
	version    string
	features   []string
	whiteout   string
	prefetch   string
	list       string
	dict       string
	parent     string
	attributes string
	external   string
	config     string
	output     string
	sink       build.Sink
	o          build.Options
	given      map[string]*cli.Option
}

func newCreate() *cli.Command {
	c := &create{kind: "dir-rafs", compressor: "zstd", digester: "blake3", version: "6", whiteout: "oci", prefetch: "none"}
	c.o.ChunkSize = build.DefaultChunkSize
	c.cmd = &cli.Command{
		Name:    "create",
		About:   "Build a RAFS image from a directory, a tar or a layer",
		Args:    []*cli.Arg{{Name: "SOURCE", Help: "Directory, tar file or table of contents to build from; may be a FIFO", Required: true, Set: cli.Str(&c.source)}},
		Options: slices.Concat(c.outputOptions(), c.formatOptions(), c.layerOptions()),
		After:   c.check,
		Run:     c.run,
	}
	c.given = map[string]*cli.Option{}
	for _, o := range c.cmd.Options {
		c.given[o.Long] = o
	}
	return c.cmd
}

// outputOptions say where from and where to.
func (c *create) outputOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "type", Short: 't', Value: "type", Aliases: []string{"source-type"}, Help: "Conversion type", Default: c.kind,
			Choices: typeNames(), Set: cli.Str(&c.kind)},
		{Long: "bootstrap", Short: 'B', Value: "bootstrap", Help: "File to write the metadata to",
			RequiredUnless: []string{"blob-dir", "blob-inline-meta"}, Conflicts: []string{"blob-inline-meta"}, Set: cli.Str(&c.sink.Bootstrap)},
		{Long: "blob-dir", Short: 'D', Value: "blob-dir", Help: "Directory to store the data blob in, named by its id", Set: cli.Str(&c.sink.BlobDir)},
		{Long: "blob", Short: 'b', Value: "blob", Help: "File to write the data blob to; may be a FIFO", Set: cli.Str(&c.sink.Blob)},
		{Long: "external-blob", Value: "external-blob", Help: "File for the data that --attributes declares external", Set: cli.Str(&c.external)},
		{Long: "blob-inline-meta", Aliases: []string{"inline-bootstrap"}, Help: "Put the metadata into the data blob",
			Conflicts: []string{"blob-id"}, Set: cli.Flag(&c.o.InlineMeta)},
		{Long: "blob-id", Value: "blob-id", Help: "Id of the data blob (default: its digest)", Set: c.setBlobID},
		{Long: "blob-data-size", Value: "blob-data-size", Help: "Size of the original blob for estargztoc-ref, in hex", Set: c.setDataSize},
		{Long: "blob-offset", Value: "blob-offset", Hidden: true, Help: "Offset of the chunk data in the blob", Set: cli.Uint(&c.o.BlobOffset, 0, rafs.V6MaxCompressed)},
		{Long: "blob-cache-dir", Value: "blob-cache-dir", Help: "Directory for the data as a filled cache of nydusd: <id>.blob.data and <id>.blob.meta",
			Conflicts: []string{"blob-inline-meta", "blob", "blob-dir", "compressor"}, Set: cli.Str(&c.sink.CacheDir)},
		outputOption(&c.output),
	}
}

// formatOptions say what the image looks like.
func (c *create) formatOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "fs-version", Short: 'v', Value: "fs-version", Help: "Version of the RAFS format", Choices: []string{"5", "6"}, Default: c.version, Set: cli.Str(&c.version)},
		{Long: "compressor", Value: "compressor", Help: "Algorithm to compress chunks with", Choices: []string{"none", "lz4_block", "zstd"},
			Default: c.compressor, Set: cli.Str(&c.compressor)},
		{Long: "digester", Value: "digester", Help: "Algorithm to digest chunks with", Choices: []string{"blake3", "sha256"}, Default: c.digester, Set: cli.Str(&c.digester)},
		{Long: "chunk-size", Value: "chunk-size", Help: "Size of chunks in bytes, a power of two from 0x1000 to 0x1000000", Default: "0x100000 (0x400000 for estargztoc-ref)",
			Set: cli.PowerOfTwo(&c.o.ChunkSize, rafs.MinChunkSize, rafs.MaxChunkSize, false)},
		{Long: "batch-size", Value: "batch-size", Help: "Pack small files together in units of this many bytes; 0 or a power of two from 0x1000 to the chunk size", Default: "0",
			Set: cli.PowerOfTwo(&c.o.BatchSize, rafs.MinChunkSize, rafs.MaxChunkSize, true)},
		{Long: "aligned-chunk", Help: "Align chunks to 4 KiB (v5; v6 always does)", Set: cli.Flag(&c.o.AlignedChunk)},
		{Long: "features", Value: "features", Help: "Features to enable", Choices: []string{"blob-toc"}, Many: true, Set: cli.Strings(&c.features)},
		{Long: "repeatable", Help: "Store uid and gid 0 for every file", Set: cli.Flag(&c.o.Repeatable)},
		{Long: "encrypt", Short: 'E', Help: "Encrypt the data with AES-128-XTS (v6)", Set: cli.Flag(&c.o.Encrypt)},
	}
}

// layerOptions relate the image to others.
func (c *create) layerOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "chunk-dict", Value: "chunk-dict", Help: "Reuse the chunks of this image: bootstrap=FILE, or the file alone", Set: cli.Str(&c.dict)},
		{Long: "parent-bootstrap", Value: "parent-bootstrap", Help: "Build a layer on top of this image", Set: cli.Str(&c.parent)},
		{Long: "whiteout-spec", Value: "whiteout-spec", Help: "How the source says what it deletes from the parent", Choices: []string{"oci", "overlayfs", "none"},
			Default: c.whiteout, Set: cli.Str(&c.whiteout)},
		prefetchOption(&c.prefetch), prefetchListOption(&c.list),
		{Long: "attributes", Value: "attributes", Help: "File that says which data is external", Set: cli.Str(&c.attributes)},
		{Long: "config", Short: 'C', Value: "config", Help: "Configuration file (JSON or TOML) of the storage", Set: cli.Str(&c.config)},
		{Long: "disable-check", Hidden: true, Help: "Don't read the result back", Set: cli.Flag(&c.o.SkipCheck)},
	}
}

func (c *create) setBlobID(v string) error {
	if v == "" || len(v) > 255 {
		return fmt.Errorf("%d bytes, 1 to 255 are allowed", len(v))
	}
	c.o.BlobID = v
	return nil
}

// setDataSize reads a size in hex, with or without 0x.
func (c *create) setDataSize(v string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(v, "0x"), 16, 63)
	if err != nil {
		return errors.New("not a hexadecimal number")
	}
	c.o.BlobDataSize = n
	return nil
}

// typ is the conversion type.
func (c *create) typ() build.SourceType {
	for _, t := range sourceTypes {
		if t.name == c.kind {
			return t.typ
		}
	}
	return build.TypeDirectory
}

// check refuses combinations that the parser can't know.
func (c *create) check() error {
	t := c.typ()
	ref := t == build.TypeTarRef || t == build.TypeEStargzRef || t == build.TypeEStargzIndex
	if c.sink.CacheDir != "" && (t == build.TypeTarfs || t == build.TypeEStargzIndex || t == build.TypeEStargz || t == build.TypeEStargzRef) {
		return cli.Usagef(c.cmd, "conversion type `%s` conflicts with `--blob-cache-dir`", c.kind)
	}
	if t == build.TypeEStargzIndex && c.o.BlobID == "" {
		return cli.Usagef(c.cmd, "conversion type `%s` needs '--blob-id <blob-id>'", c.kind)
	}
	if c.o.BatchSize > c.o.ChunkSize {
		return cli.Usagef(c.cmd, "batch size 0x%x is larger than the chunk size 0x%x", c.o.BatchSize, c.o.ChunkSize)
	}
	if ref || t == build.TypeTarfs {
		if c.given["compressor"].Given() && c.compressor != "zstd" && compressors[c.compressor] != fixedCompressor(t) {
			return cli.Usagef(c.cmd, "conversion type `%s` conflicts with '--compressor %s'", c.kind, c.compressor)
		}
		if c.o.BatchSize != 0 {
			return cli.Usagef(c.cmd, "conversion type `%s` conflicts with '--batch-size <batch-size>'", c.kind)
		}
		if c.o.Encrypt {
			return cli.Usagef(c.cmd, "conversion type `%s` conflicts with '--encrypt'", c.kind)
		}
	}
	return nil
}

// fixedCompressor is the one that a reference type has: data is not stored again.
func fixedCompressor(t build.SourceType) rafs.Compressor {
	if t == build.TypeTarfs {
		return rafs.CompressorNone
	}
	return rafs.CompressorGzip
}

// options turns the words of the command line into build's options.
func (c *create) options() {
	o := &c.o
	o.Version = rafs.V6
	if c.version == "5" || c.kind == "stargz_index" && !c.given["fs-version"].Given() {
		o.Version = rafs.V5
	}
	o.Compressor, o.Digester, o.Whiteout = compressors[c.compressor], digesters[c.digester], whiteouts[c.whiteout]
	if c.sink.CacheDir != "" {
		o.Compressor = rafs.CompressorNone
	}
	switch t := c.typ(); t {
	case build.TypeTarRef, build.TypeEStargzRef, build.TypeEStargzIndex, build.TypeTarfs:
		o.Compressor, o.Digester = fixedCompressor(t), rafs.DigesterSHA256
		if t == build.TypeEStargzIndex && !c.given["chunk-size"].Given() {
			o.ChunkSize = 0x400000
		}
	}
	o.BlobTOC = slices.Contains(c.features, "blob-toc")
}

func (c *create) run(ctx context.Context, env *cli.Env) error {
	c.options()
	if c.attributes != "" || c.external != "" {
		return cli.Hint(errors.New("external data (--attributes, --external-blob) is not supported: it has no digests to verify it by"),
			"leave the option out to store the data in the image's own blob")
	}
	if c.config != "" {
		if _, err := readConfig(c.config); err != nil {
			return err
		}
	}
	var err error
	if c.o.Prefetch, err = readPrefetch(env, c.prefetch, c.list); err != nil {
		return err
	}
	closeInputs, err := openInputs(input{c.parent, &c.o.Parent}, input{dictPath(c.dict), &c.o.ChunkDict})
	if err != nil {
		return err
	}
	defer closeInputs()
	src, closeSource, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer closeSource()
	var done func()
	c.o.Progress, done = progress(env)
	r, err := build.Build(ctx, src, c.sink, c.o)
	done()
	if err != nil {
		return c.hint(fmt.Errorf("build from %s: %w", c.source, err))
	}
	logSuccess(env, r)
	return writeJSON(c.output, newOutput(r), true)
}

// hint tells what to do about a build that failed.
func (c *create) hint(err error) error {
	switch {
	case c.typ() == build.TypeEStargzIndex && errors.Is(err, build.ErrSource):
		return cli.Hint(err, "give the layer's stargz.index.json, or the layer itself with --type estargz-ref")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hint(err, "check that the directories of the outputs exist")
	}
	return err
}

// open opens the source. A FIFO is opened here and waits for its writer.
func (c *create) open(ctx context.Context) (build.Source, func(), error) {
	st, err := os.Stat(c.source)
	if err != nil {
		return build.Source{}, nil, cli.Hint(fmt.Errorf("open source: %w", err), "check the path of the source")
	}
	if c.typ() == build.TypeDirectory {
		if !st.IsDir() {
			return build.Source{}, nil, cli.Hint(fmt.Errorf("source %s is not a directory", c.source), "name its kind with --type, for example tar-rafs")
		}
		return build.Dir(c.source), func() {}, nil
	}
	if st.IsDir() {
		return build.Source{}, nil, cli.Hint(fmt.Errorf("source %s is a directory", c.source), "use --type dir-rafs")
	}
	f, err := os.Open(c.source)
	if err != nil {
		return build.Source{}, nil, fmt.Errorf("open source: %w", err)
	}
	// Reading from a FIFO whose writer is silent must end with ctx, so that what was
	// written so far is removed. Other files have no deadlines and need none.
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })
	return build.Stream(c.typ(), f, c.source), func() { stop(); f.Close() }, nil
}

// An input is an image that another is built on, if path is not empty.
type input struct {
	path string
	to   **build.Image
}

// openInputs opens images of which only the metadata is needed.
func openInputs(list ...input) (closeAll func(), err error) {
	var open []*bootload.Bootstrap
	closeAll = func() {
		for _, b := range open {
			b.Close()
		}
	}
	for _, in := range list {
		if in.path == "" {
			continue
		}
		b, err := bootload.Open(opener.Local(), in.path)
		if err != nil {
			closeAll()
			return nil, noImage(err)
		}
		open = append(open, b)
		*in.to = &build.Image{Name: b.Name, Data: b.Bytes()}
	}
	return closeAll, nil
}

// dictPath reads --chunk-dict: bootstrap=FILE, or the file alone.
func dictPath(v string) string {
	return strings.TrimPrefix(v, "bootstrap=")
}
