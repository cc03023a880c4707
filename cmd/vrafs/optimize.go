package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"vrafs/build"
	"vrafs/internal/cli"
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

// maxPrefetchList bounds the list of files.
const maxPrefetchList = 64 << 20

func (o *optimize) run(ctx context.Context, env *cli.Env) error {
	text, err := readFile(o.list, maxPrefetchList)
	if err != nil {
		return err
	}
	files, err := parsePrefetchList(text)
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
	r, err := build.Optimize(ctx, im.input(), files, build.Sink{Bootstrap: o.out, BlobDir: o.outDir})
	if err != nil {
		return fmt.Errorf("optimize %s: %w", im.path, err)
	}
	logSuccess(env, r)
	return writeJSON(o.output, newOutput(r), true)
}

// parsePrefetchList reads a list of files: JSON if it looks like it, else a path
// per line. Ranges are pairs of offset and size.
func parsePrefetchList(text []byte) ([]build.PrefetchFile, error) {
	trimmed := strings.TrimSpace(string(text))
	var files []build.PrefetchFile
	if !strings.HasPrefix(trimmed, "{") {
		for line := range strings.Lines(trimmed) {
			if line = strings.TrimSpace(line); line != "" {
				files = append(files, build.PrefetchFile{Path: path.Clean("/" + line)})
			}
		}
		return files, nil
	}
	var list struct {
		Version string `json:"version"`
		Files   []struct {
			Path   string      `json:"path"`
			Ranges [][2]uint64 `json:"ranges"`
		} `json:"files"`
	}
	if err := json.Unmarshal([]byte(trimmed), &list); err != nil {
		return nil, err
	}
	for _, f := range list.Files {
		if f.Path == "" {
			return nil, fmt.Errorf("an entry of files has no path")
		}
		files = append(files, build.PrefetchFile{Path: path.Clean("/" + f.Path), Ranges: f.Ranges})
	}
	return files, nil
}
