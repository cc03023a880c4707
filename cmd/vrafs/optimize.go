package main

import (
	"bytes"
	"context"
	"fmt"
	"path"

	"vrafs/build"
	"vrafs/internal/cli"
	"vrafs/internal/filelist"
)

// An optimize holds the command line of nydus-image optimize.
type optimize struct {
	place  place
	list   string
	out    string
	outDir string
	output string
}

func newOptimize() *cli.Command {
	o := &optimize{}
	bootstrap := o.place.bootstrapOption()
	bootstrap.Required = true
	return &cli.Command{
		Name:  "optimize",
		About: "Copy the data of files into one blob that is fetched first",
		Options: append([]*cli.Option{
			bootstrap,
			{Long: "prefetch-files", Short: 'p', Value: "prefetch-files", Help: "List of the files: a path per line, or JSON with ranges", Required: true, Set: cli.Str(&o.list)},
			o.place.configOption(), o.place.dirOption(), o.place.blobOption(),
			{Long: "output-bootstrap", Short: 'O', Value: "output-bootstrap", Help: "File for the new bootstrap", Required: true, Set: cli.Str(&o.out)},
			{Long: "output-blob-dir", Value: "output-blob-dir", Help: "Directory for the new blob", Required: true, Set: cli.Str(&o.outDir)},
			outputOption(&o.output),
		}, o.place.backendOptions()...),
		Run: o.run,
	}
}

func (o *optimize) run(ctx context.Context, env *cli.Env) error {
	text, err := readFile(o.list, filelist.MaxSize)
	if err != nil {
		return err
	}
	files, err := filelist.Parse(anchored(text))
	if err != nil {
		return fmt.Errorf("list of files %s: %w", o.list, err)
	}
	im, err := o.place.open()
	if err != nil {
		return err
	}
	defer im.Close()
	if err := im.needBlobs(); err != nil {
		return err
	}
	r, err := build.Optimize(ctx, im.input(), prefetchFiles(files), build.Sink{Bootstrap: o.out, BlobDir: o.outDir})
	if err != nil {
		return fmt.Errorf("optimize %s: %w", im.path, err)
	}
	logSuccess(env, r)
	return writeJSON(o.output, newOutput(r), true)
}

// anchored lets lines begin at the root that have no slash.
func anchored(text []byte) []byte {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return text
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if line = bytes.TrimLeft(line, " \t"); !bytes.HasPrefix(line, []byte("/")) && len(bytes.TrimSpace(line)) > 0 {
			out.WriteByte('/')
		}
		out.Write(line)
	}
	return out.Bytes()
}

// prefetchFiles is a list as the builder takes it. A file that is named several times,
// with ranges, is copied in parts.
func prefetchFiles(list []filelist.File) []build.PrefetchFile {
	var files []build.PrefetchFile
	for _, f := range list {
		to := build.PrefetchFile{Path: path.Clean("/" + f.Path)}
		for _, r := range f.Ranges {
			to.Ranges = append(to.Ranges, r)
		}
		files = append(files, to)
	}
	return files
}
