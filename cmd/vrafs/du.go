package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"vrafs/build"
	"vrafs/internal/cli"
	"vrafs/internal/imagewalk"
	"vrafs/oci"
	"vrafs/rafs"
)

// A du holds the command line of vrafs du.
type du struct {
	access access
	o      oci.Options
	refs   []oci.Ref
	json   bool
}

func newDu() *cli.Command {
	d := &du{}
	return &cli.Command{
		Name:  "du",
		About: "Say what images take, share, save by compression and need for a start",
		Options: append([]*cli.Option{
			{Long: "json", Help: "Print JSON, one line per image", Set: cli.Flag(&d.json)},
			{Long: "platform", Value: "platform", Help: "Image to take from an index, such as linux/arm64 (default: this machine's)", Set: func(v string) error {
				p, err := oci.ParsePlatform(v)
				d.o.Platform = &p
				return err
			}},
		}, d.access.options()...),
		Args: []*cli.Arg{{Name: "REF", Help: "Images; what one shares is with those before it: " + refHelp, Required: true, Many: true, Set: func(v string) error {
			ref, err := oci.Parse(v)
			d.refs = append(d.refs, ref)
			return err
		}}},
		Run: d.run,
	}
}

// A usage is what one image takes. Sizes are in bytes.
type usage struct {
	Ref    string `json:"reference"`
	Digest string `json:"digest"`
	Nydus  bool   `json:"nydus"`
	// Stored is what the registry keeps: layers or blobs, and the bootstrap.
	Stored    int64 `json:"stored"`
	Bootstrap int64 `json:"bootstrap"`
	Blobs     int   `json:"blobs"`
	// Of a Nydus image only.
	Files    uint64 `json:"files"`
	Size     uint64 `json:"size"`     // of all files
	Distinct uint64 `json:"distinct"` // of it, each chunk once
	Shared   uint64 `json:"shared"`   // of these, what the images before have
	Prefetch uint64 `json:"prefetch"` // what a start fetches first, of the size
}

func (d *du) run(ctx context.Context, env *cli.Env) error {
	d.o.Access, d.o.Want = d.access.one(), oci.WantNydus
	var before []build.Image
	for _, ref := range d.refs {
		u, im, err := d.measure(ctx, ref, before)
		if err != nil {
			return adviseOCI(err)
		}
		if im != nil {
			before = append(before, *im)
		}
		if d.json {
			err = json.NewEncoder(env.Stdout).Encode(u)
		} else {
			err = u.print(env.Stdout)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measure looks at one image; its bootstrap is kept for those that come after it.
func (d *du) measure(ctx context.Context, ref oci.Ref, before []build.Image) (*usage, *build.Image, error) {
	im, err := oci.Resolve(ctx, ref, d.o)
	if err != nil {
		return nil, nil, err
	}
	defer im.Close()
	u := &usage{Ref: ref.String(), Digest: im.Desc.Digest.String(), Nydus: im.IsNydus(), Blobs: len(im.Manifest.Layers), Stored: im.Manifest.LayersSize()}
	if !u.Nydus {
		return u, nil, nil
	}
	layer, err := im.BootstrapLayer()
	if err != nil {
		return nil, nil, err
	}
	u.Bootstrap, u.Blobs = layer.Size, u.Blobs-1
	var boot bytes.Buffer
	if err := im.Bootstrap(ctx, &boot); err != nil {
		return nil, nil, err
	}
	image := build.Image{Name: ref.String(), Data: boot.Bytes()}
	r, err := build.Stat(ctx, before, &image, build.StatOptions{})
	if err != nil {
		return nil, nil, err
	}
	t := &r.Target
	u.Files, u.Size, u.Distinct, u.Shared = t.Files, t.FileSize, t.DedupUncompSize, t.RefUncompSize
	u.Prefetch, err = prefetched(ctx, image.Data)
	return u, &image, err
}

// prefetched is the size of the files that the image wants to be fetched first.
func prefetched(ctx context.Context, boot []byte) (total uint64, err error) {
	im, err := rafs.Open(boot, rafs.Options{})
	if err != nil {
		return 0, err
	}
	seen := map[rafs.Ino]bool{}
	for _, ino := range im.Prefetch() {
		err := imagewalk.Walk(ctx, im, ino, "/", func(_ string, n *rafs.Inode) error {
			if n.IsDir() && seen[n.Ino()] {
				return imagewalk.ErrSkipDir
			}
			if n.IsRegular() && !seen[n.Ino()] {
				total += n.Size()
			}
			seen[n.Ino()] = true
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// print shows it to a person.
func (u *usage) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "  %-14s "+format+"\n", append([]any{name}, a...)...)
	}
	fmt.Fprintln(&b, u.Ref)
	if !u.Nydus {
		line("stored", "%s in %d layers", cli.Bytes(uint64(u.Stored)), u.Blobs)
		line("a start needs", "all of it: this is no Nydus image (vrafs convert makes one)")
	} else {
		line("files", "%d: %s", u.Files, cli.Bytes(u.Size))
		line("stored", "%s in %d blobs and the bootstrap", cli.Bytes(uint64(u.Stored)), u.Blobs)
		line("repeated", "%s of the files, kept once", cli.Bytes(u.Size-min(u.Size, u.Distinct)))
		line("compression", "saves %d %% of the rest", u.saved())
		line("shared", "%s with the images before it", cli.Bytes(u.Shared))
		line("a start needs", "%s for the bootstrap, and what it reads; with prefetch, %s of files come first", cli.Bytes(uint64(u.Bootstrap)), cli.Bytes(u.Prefetch))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// saved is the percentage of distinct data that need not be stored.
func (u *usage) saved() uint64 {
	stored := uint64(u.Stored - u.Bootstrap)
	if u.Distinct == 0 || stored > u.Distinct {
		return 0
	}
	return 100 - stored*100/u.Distinct
}
