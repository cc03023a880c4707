package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"vrafs/backend"
	"vrafs/internal/chunkread"
	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
	"vrafs/oci"
	"vrafs/rafs"
)

// A check holds the command line of nydus-image check.
type check struct {
	place   place
	output  string
	verbose bool
	ref     refOptions
	source  *oci.Ref
}

// newCheck also takes references, unless the program is called as nydus-image.
func newCheck(refs bool) *cli.Command {
	c := &check{}
	cmd := &cli.Command{
		Name:  "check",
		About: "Check the metadata of an image, and its data where the blobs are at hand",
		Args:  []*cli.Arg{c.place.bootstrapArg()},
		Options: []*cli.Option{
			c.place.bootstrapOption(), c.place.dirOption(), c.place.configOption(), outputOption(&c.output),
			{Long: "verbose", Short: 'v', Help: "Print every entry of the image", Set: cli.Flag(&c.verbose)},
		},
		Run: c.run,
	}
	if refs {
		cmd.About = "Check a bootstrap, with its data where the blobs are at hand; or a converted image by its reference, also against its source"
		cmd.Args[0].Help += ", or reference"
		cmd.Options = append(cmd.Options, &cli.Option{Long: "source", Value: "ref", Help: "Of a reference: the image that was converted (default: the one that it names)", Set: func(v string) error {
			r, err := oci.Parse(v)
			c.source = &r
			return err
		}})
		cmd.Options = append(cmd.Options, c.ref.options()...)
		cmd.Run = func(ctx context.Context, env *cli.Env) error {
			if isRef(c.place.positional) {
				return c.ref.checkRef(ctx, env, c.place.positional, c.source)
			}
			return c.run(ctx, env)
		}
	}
	return cmd
}

// maxShown bounds the findings that are printed.
const maxShown = 20

func (c *check) run(ctx context.Context, env *cli.Env) error {
	im, err := c.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	report, err := im.Image.Check(ctx, rafs.CheckOptions{})
	if err != nil {
		for i, p := range report.Problems {
			if i == maxShown {
				env.Log.Error(fmt.Sprintf("and %d more", len(report.Problems)-i))
				break
			}
			env.Log.Error(fmt.Sprintf("%s: %q: %v", im.path, p.Path, p.Err))
		}
		return fmt.Errorf("check %s: %w", im.path, err)
	}
	if c.verbose {
		if err := c.list(ctx, env.Stdout, im); err != nil {
			return err
		}
	}
	// With -B alone nobody expects the data to be there.
	if im.blobs != nil && (c.place.bootstrap == "" || c.place.dir != "" || c.place.config != "") {
		if err := c.data(ctx, env, im); err != nil {
			return fmt.Errorf("check the data of %s: %w", im.path, err)
		}
	}
	if err := printBlobs(env.Stdout, im.Image); err != nil {
		return err
	}
	return writeJSON(c.output, checkOutput(im), false)
}

// list prints one line per name.
func (c *check) list(ctx context.Context, w io.Writer, im *image) error {
	out := bufio.NewWriter(w)
	err := imagewalk.Walk(ctx, im.Image, im.Image.Root(), "/", func(p string, n *rafs.Inode) error {
		_, err := fmt.Fprintf(out, "inode: %s %s: ino %d, size %d, chunks %d\n", modeText(n.Mode()), cli.Quote(p), n.Ino(), n.Size(), n.ChunkCount())
		return err
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// data compares what the blobs say of their chunks with the bootstrap, reads every
// chunk that files refer to and compares its digest. Blobs
// without digests are passed over with a warning.
func (c *check) data(ctx context.Context, env *cli.Env, im *image) error {
	r := chunkread.New(im.Image, im.blobs, chunkread.Options{})
	defer r.Close()
	show, done := progress(env)
	defer done()
	var bytes uint64
	for i := range im.Image.Blobs() {
		b := &im.Image.Blobs()[i]
		if b.Features&(rafs.BlobTarfs|rafs.BlobExternal) != 0 {
			env.Log.Warn(fmt.Sprintf("blob %s has no digests by design, its data is not checked", b.ID))
			continue
		}
		err := r.CheckMeta(ctx, uint16(i))
		if b.LegacyStargz() && errors.Is(err, backend.ErrNotFound) {
			env.Log.Warn(fmt.Sprintf("the list of chunks of layer %s is missing: nydusd needs it, this program doesn't", b.ID))
			err = nil
		}
		if err != nil {
			return err
		}
		err = r.Stream(ctx, 0, r.BlobChunks(uint16(i)), func(p chunkread.Piece) error {
			if bytes += uint64(len(p.Data)); show != nil {
				show(bytes, 0, "checked")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// printBlobs writes the answer of a successful check. The blank at the end of the
// first line is nydus-image's.
func printBlobs(w io.Writer, im *rafs.Image) error {
	var b strings.Builder
	b.WriteString("RAFS filesystem metadata is valid, referenced data blobs: \n")
	for i := range im.Blobs() {
		d := &im.Blobs()[i]
		fmt.Fprintf(&b, "\t %d: %s, compressed size %d, uncompressed size %d, chunk size: 0x%x, chunk count: %d, features: %s\n",
			i, d.ID, d.CompressedSize, d.UncompressedSize, d.ChunkSize, d.ChunkCount, featureWords(d.Features))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// featureNames are the words of check for blob features, in alphabetical order.
var featureNames = []struct {
	bit  rafs.BlobFeatures
	name string
}{
	{rafs.BlobAligned, "aligned"},
	{rafs.BlobBatch, "batch"},
	{rafs.BlobCapTarTOC, "cap_toc"},
	{rafs.BlobInlinedChunkDigest, "chunk-digest"},
	{rafs.BlobChunkInfoV2, "chunk-v2"},
	{rafs.BlobEncrypted, "encrypted"},
	{rafs.BlobInlinedFSMeta, "fs-meta"},
	{rafs.BlobChunkDictGenerated, "is-chunkdict-generated"},
	{rafs.BlobSeparate, "separate"},
	{rafs.BlobHasTarHeader, "tar-header"},
	{rafs.BlobHasTOC, "toc"},
	{rafs.BlobZran, "zran"},
}

func featureWords(f rafs.BlobFeatures) string {
	var words []string
	for _, n := range featureNames {
		if f.Has(n.bit) {
			words = append(words, n.name)
		}
	}
	return strings.Join(words, "|")
}

// checkOutput is the result of check as JSON.
func checkOutput(im *image) *outputJSON {
	o := &outputJSON{
		Version: cli.ThisBuild().ID(), Bootstrap: im.path, ExternalBlobs: []string{},
		FSVersion: versionName(im.Image.Version()), Compressor: im.Image.Compressor().String(),
		Trace: newTrace(),
	}
	var ids []string
	for i := range im.Image.Blobs() {
		ids = append(ids, im.Image.Blobs()[i].ID)
	}
	o.Blobs = distinct(ids)
	return o
}
