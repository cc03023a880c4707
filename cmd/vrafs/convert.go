package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"vrafs/build"
	"vrafs/internal/cli"
	"vrafs/internal/filelist"
	"vrafs/oci"
	"vrafs/rafs"
)

// A convert holds the command line of convert. Where nydusify has an option, it has the
// same name here.
type convert struct {
	cmd         *cli.Command
	access      access
	report      reporter
	source      string
	target      string
	src, dst    oci.Ref
	o           oci.ConvertOptions
	to          string
	version     string
	compressor  string
	compression string
	digester    string
	dict        string
	caches      []string
	noRecords   bool
	stdin       bool
	prefetch    []string
}

func newConvert() *cli.Command {
	c := &convert{to: "nydus", version: "6", compressor: "zstd", compression: "gzip", digester: "blake3"}
	c.o.Recipe = oci.DefaultRecipe()
	c.o.Records = oci.DefaultRecords()
	c.cmd = &cli.Command{
		Name:  "convert",
		About: "Convert an image to Nydus, or back to OCI",
		Args: []*cli.Arg{
			{Name: "SRC", Help: "Image to convert: " + refHelp, RequiredUnless: []string{"source"}, Set: cli.Str(&c.source)},
			{Name: "DST", Help: "Where to put the result, in the same form", RequiredUnless: []string{"target"}, Set: cli.Str(&c.target)},
		},
		Options: slices.Concat(c.options(), c.recipeOptions(), c.resultOptions(), c.report.options(), c.access.sides()),
		After:   c.check,
		Run:     c.run,
	}
	return c.cmd
}

func (c *convert) options() []*cli.Option {
	return []*cli.Option{
		{Long: "source", Value: "ref", Help: "Another way to give SRC", Hidden: true, Set: cli.Str(&c.source)},
		{Long: "target", Value: "ref", Help: "Another way to give DST", Hidden: true, Set: cli.Str(&c.target)},
		{Long: "to", Value: "kind", Help: "What to make", Choices: []string{"nydus", "oci"}, Default: c.to, Set: cli.Str(&c.to)},
		{Long: "platform", Value: "platform", Help: "Platforms to convert, such as linux/arm64, separated by commas, or all (default: this machine's)", Many: true,
			Set: setPlatforms(&c.o.Platforms, &c.o.AllPlatforms)},
		{Long: "all-platforms", Help: "Convert the images of all platforms", Set: cli.Flag(&c.o.AllPlatforms)},
		{Long: "parallel", Value: "number", Help: "Layers to convert at a time; each takes about 60 MiB of memory", Default: "2", Set: setInt(&c.o.Parallel, 1, 64)},
		{Long: "build-cache", Value: "ref", Help: "Nydus image whose layers are used again if they were made of the same layers; it is believed", Many: true, Set: cli.Strings(&c.caches)},
		{Long: "cache-dir", Value: "dir", Help: "Directory where conversions of layers are remembered (default: vrafs/conversions in the user's cache)", Set: cli.Str(&c.o.Records)},
		{Long: "no-cache", Help: "Convert every layer anew, and remember nothing", Set: cli.Flag(&c.noRecords)},
	}
}

func (c *convert) recipeOptions() []*cli.Option {
	r := &c.o.Recipe
	return []*cli.Option{
		{Long: "fs-version", Value: "version", Help: "Version of the RAFS format", Choices: []string{"5", "6"}, Default: c.version, Set: cli.Str(&c.version)},
		{Long: "compressor", Value: "compressor", Help: "Algorithm to compress chunks with", Choices: []string{"none", "lz4_block", "zstd"}, Default: c.compressor, Set: cli.Str(&c.compressor)},
		{Long: "digester", Value: "digester", Help: "Algorithm to digest chunks with", Choices: []string{"blake3", "sha256"}, Default: c.digester, Set: cli.Str(&c.digester)},
		{Long: "chunk-size", Value: "bytes", Help: "Size of chunks, a power of two from 0x1000 to 0x1000000", Default: "0x100000", Set: cli.PowerOfTwo(&r.ChunkSize, rafs.MinChunkSize, rafs.MaxChunkSize, false)},
		{Long: "batch-size", Value: "bytes", Help: "Pack small files together in units of this many bytes; 0 or a power of two", Default: "0", Set: cli.PowerOfTwo(&r.BatchSize, rafs.MinChunkSize, rafs.MaxChunkSize, true)},
		{Long: "aligned-chunk", Aliases: []string{"fs-align-chunk"}, Help: "Align chunks to 4 KiB (v5; v6 always does)", Set: cli.Flag(&r.Aligned)},
		{Long: "oci-ref", Help: "Leave the data in the layers as they are, and only add where everything is", Set: cli.Flag(&r.Ref)},
		{Long: "encrypt", Help: "Encrypt the data with AES-128-XTS (v6)", Set: cli.Flag(&r.Encrypt)},
		{Long: "chunk-dict", Value: "ref", Help: "Nydus image whose chunks are not stored again", Set: cli.Str(&c.dict)},
		{Long: "prefetch", Aliases: []string{"prefetch-dir"}, Value: "path", Help: "Path that a start reads first (default: /)", Many: true, Set: cli.Strings(&c.prefetch)},
		{Long: "prefetch-patterns", Help: "Read such paths from standard input, one per line", Set: cli.Flag(&c.stdin)},
	}
}

func (c *convert) resultOptions() []*cli.Option {
	return []*cli.Option{
		{Long: "merge-platform", Help: "Make an index with the OCI images and their conversions, for nodes with and without Nydus", Set: cli.Flag(&c.o.MergePlatform)},
		{Long: "with-referrer", Help: "Let the conversion refer to the OCI image, by whose name it is found then if both are in one repository", Set: cli.Flag(&c.o.Referrer)},
		{Long: "compression", Value: "kind", Help: "How layers are stored with --to oci", Choices: []string{"gzip", "zstd", "none"}, Default: c.compression, Set: cli.Str(&c.compression)},
		{Long: "docker-v2-format", Help: "Make Docker manifests instead of OCI ones", Set: cli.Flag(&c.o.Docker)},
	}
}

// check reads what the words of the command line mean together.
func (c *convert) check() error {
	var err error
	if c.src, err = oci.Parse(c.source); err == nil {
		c.dst, err = oci.Parse(c.target)
	}
	if err != nil {
		return cli.Usagef(c.cmd, "%v", err)
	}
	r := &c.o.Recipe
	r.Compressor, r.Digester, r.Version = compressors[c.compressor], digesters[c.digester], rafs.V6
	if c.version == "5" {
		r.Version = rafs.V5
	}
	if r.Ref {
		r.Compressor, r.Digester = rafs.CompressorGzip, rafs.DigesterSHA256
	}
	if c.noRecords {
		c.o.Records = ""
	}
	if c.dict != "" {
		dict, err := oci.Parse(dictRef(c.dict))
		if err != nil {
			return cli.Usagef(c.cmd, "--chunk-dict: %v", err)
		}
		c.o.ChunkDict = &dict
	}
	for _, s := range c.caches {
		ref, err := oci.Parse(s)
		if err != nil {
			return cli.Usagef(c.cmd, "--build-cache: %v", err)
		}
		c.o.Caches = append(c.o.Caches, ref)
	}
	if c.o.Docker && c.o.Referrer {
		return cli.Usagef(c.cmd, "'--docker-v2-format' conflicts with '--with-referrer': Docker manifests refer to nothing")
	}
	return nil
}

// dictRef takes nydusify's way of naming a chunk dictionary, too.
func dictRef(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "bootstrap:registry:"), "bootstrap=")
}

// Memory of a conversion: the collector works harder instead of letting garbage pile up,
// so that what is needed and what is not stay below 256 MiB together.
const (
	convertGC    = 40
	convertLimit = 220 << 20
)

func (c *convert) run(ctx context.Context, env *cli.Env) error {
	debug.SetGCPercent(convertGC)
	debug.SetMemoryLimit(convertLimit)
	if err := c.patterns(env); err != nil {
		return err
	}
	c.o.From, c.o.To = c.access.source(), c.access.dest()
	progress, done := c.report.start(env)
	defer done()
	c.o.Progress = progress
	r, err := c.convert(ctx)
	done()
	if err != nil {
		if errors.Is(err, build.ErrOptions) {
			return cli.Hint(err, "leave out the option that does not fit")
		}
		return adviseOCI(err)
	}
	return c.show(env, r)
}

// convert does the work in the wanted direction.
func (c *convert) convert(ctx context.Context) (*oci.ConvertResult, error) {
	o := &c.o
	if c.to == "nydus" {
		return oci.Convert(ctx, c.src, c.dst, *o)
	}
	return oci.Unconvert(ctx, c.src, c.dst, oci.UnconvertOptions{
		From: o.From, To: o.To, Platforms: o.Platforms, AllPlatforms: o.AllPlatforms, Compression: oci.Compression(c.compression),
		Docker: o.Docker, Parallel: o.Parallel, Progress: o.Progress,
	})
}

// patterns collects the paths to prefetch.
func (c *convert) patterns(env *cli.Env) error {
	if c.stdin {
		files, err := readPatterns(env.Stdin, "")
		if err != nil {
			return err
		}
		for _, f := range filelist.Whole(files) {
			c.prefetch = append(c.prefetch, f.Path)
		}
	}
	if len(c.prefetch) > 0 {
		c.o.Recipe.Prefetch = c.prefetch
	}
	return nil
}

// convertedImage is one image of the result in JSON.
type convertedImage struct {
	Platform   string `json:"platform"`
	Source     string `json:"source"`
	Digest     string `json:"digest"`
	SourceSize int64  `json:"source_size"`
	Size       int64  `json:"size"`
	Layers     int    `json:"layers"`
	Reused     int    `json:"reused"`
}

// show prints the result.
func (c *convert) show(env *cli.Env, r *oci.ConvertResult) error {
	images := []convertedImage{}
	for _, im := range r.Images {
		images = append(images, convertedImage{im.Platform, im.Source.String(), im.Digest.String(), im.SourceSize, im.Size, im.Layers, im.Reused})
	}
	if c.report.json {
		return c.report.print(struct {
			Event     string           `json:"event"`
			Reference string           `json:"reference"`
			Digest    string           `json:"digest"`
			Images    []convertedImage `json:"images"`
		}{"result", c.dst.String(), r.Digest.String(), images})
	}
	if !c.report.quiet {
		for _, im := range images {
			fmt.Fprintf(env.Stderr, "%s: %d layers, %d of them reused, %s of %s\n", cli.Quote(im.Platform), im.Layers, im.Reused, cli.Bytes(uint64(im.Size)), cli.Bytes(uint64(im.SourceSize)))
		}
	}
	_, err := fmt.Fprintln(env.Stdout, r.Ref)
	return err
}
