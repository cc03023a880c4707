package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"vrafs/internal/cli"
	"vrafs/oci"
)

// refOptions are those of commands that take a reference where they also take the path
// of a bootstrap.
type refOptions struct {
	access   access
	platform *oci.Platform
	json     bool
	raw      bool
}

func (r *refOptions) setPlatform(v string) error {
	p, err := oci.ParsePlatform(v)
	r.platform = &p
	return err
}

// options are those of a reference.
func (r *refOptions) options() []*cli.Option {
	return append([]*cli.Option{
		{Long: "platform", Value: "platform", Help: "Of a reference: the platform, such as linux/arm64 (default: this machine's)", Set: r.setPlatform},
		{Long: "json", Help: "Of a reference: print JSON", Set: cli.Flag(&r.json)},
	}, r.access.options()...)
}

// isRef reports whether the argument is a reference. A file of that name wins.
func isRef(arg string) bool {
	if !oci.IsRef(arg) {
		return false
	}
	_, err := os.Lstat(arg)
	return err != nil
}

// described is what inspect prints of a reference.
type described struct {
	Reference   string            `json:"reference"`
	Digest      string            `json:"digest"` // of what the reference names
	MediaType   string            `json:"media_type"`
	Platforms   []describedEntry  `json:"platforms,omitempty"` // of an index
	Kind        string            `json:"kind"`                // oci or nydus; empty if nothing is for the platform
	Manifest    string            `json:"manifest,omitempty"`  // digest of the platform's
	Platform    string            `json:"platform,omitempty"`
	FSVersion   string            `json:"fs_version,omitempty"`
	Subject     string            `json:"subject,omitempty"`
	Size        int64             `json:"size"`
	Layers      []describedLayer  `json:"layers"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Config      json.RawMessage   `json:"config,omitempty"`
}

// describedEntry is an image of an index.
type describedEntry struct {
	Platform string `json:"platform"`
	Kind     string `json:"kind"` // oci, nydus or attestation
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`
}

// describedLayer is a layer of the image.
type describedLayer struct {
	Kind        string            `json:"kind"` // layer, blob or bootstrap
	Digest      string            `json:"digest"`
	DiffID      string            `json:"diff_id,omitempty"`
	Size        int64             `json:"size"`
	MediaType   string            `json:"media_type"`
	Source      string            `json:"source,omitempty"` // the layer that a blob was made of
	Annotations map[string]string `json:"annotations,omitempty"`
}

// describe looks at a reference.
func (r *refOptions) describe(ctx context.Context, arg string) (*described, []byte, error) {
	ref, err := oci.Parse(arg)
	if err != nil {
		return nil, nil, adviseOCI(err)
	}
	o := oci.Options{Access: r.access.one(), Platform: r.platform}
	repo, err := oci.Open(ctx, ref, o)
	if err != nil {
		return nil, nil, adviseOCI(err)
	}
	defer repo.Close()
	raw, desc, index, err := repo.Document(ctx, ref)
	if err != nil {
		return nil, nil, adviseOCI(err)
	}
	d := &described{Reference: ref.String(), Digest: desc.Digest.String(), MediaType: desc.MediaType, Layers: []describedLayer{}}
	if index != nil {
		d.list(index)
	}
	im, err := repo.Image(ctx, ref, o)
	if errors.Is(err, oci.ErrPlatform) && r.platform == nil && index != nil {
		return d, raw, nil // the list of what there is says it
	}
	if err != nil {
		return nil, nil, adviseOCI(err)
	}
	d.image(im)
	return d, raw, nil
}

func (d *described) list(x *oci.Index) {
	d.Annotations = x.Annotations
	for i := range x.Manifests {
		e := &x.Manifests[i]
		entry := describedEntry{Platform: "unknown", Kind: "oci", Digest: e.Digest.String(), Size: e.Size}
		if e.Platform != nil {
			entry.Platform = e.Platform.String()
		}
		switch {
		case e.IsAttestation():
			entry.Kind = "attestation"
		case e.IsNydusManifest():
			entry.Kind = "nydus"
		}
		d.Platforms = append(d.Platforms, entry)
	}
}

func (d *described) image(im *oci.Image) {
	d.Kind, d.Manifest, d.Platform, d.Config = "oci", im.Desc.Digest.String(), im.Platform().String(), im.RawConfig
	if im.Manifest.Annotations != nil {
		d.Annotations = im.Manifest.Annotations
	}
	if im.IsNydus() {
		d.Kind = "nydus"
	}
	if im.Manifest.Subject != nil {
		d.Subject = im.Manifest.Subject.Digest.String()
	}
	d.Size = im.Manifest.LayersSize()
	for i := range im.Manifest.Layers {
		l := &im.Manifest.Layers[i]
		out := describedLayer{Kind: "layer", Digest: l.Digest.String(), Size: l.Size, MediaType: l.MediaType, Annotations: l.Annotations,
			Source: l.Annotations[oci.AnnotationNydusSourceDigest]}
		switch {
		case l.IsNydusBootstrap():
			out.Kind, d.FSVersion = "bootstrap", l.Annotations[oci.AnnotationNydusFSVersion]
		case l.IsNydusBlob():
			out.Kind = "blob"
		}
		if i < len(im.Config.RootFS.DiffIDs) {
			out.DiffID = im.Config.RootFS.DiffIDs[i].String()
		}
		d.Layers = append(d.Layers, out)
	}
}

// inspectRef prints what a reference names.
func (r *refOptions) inspectRef(ctx context.Context, env *cli.Env, arg string) error {
	d, raw, err := r.describe(ctx, arg)
	if err != nil {
		return err
	}
	switch {
	case r.raw:
		_, err = env.Stdout.Write(raw)
		return err
	case r.json:
		text, err := marshal(d, true)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.Stdout, "%s\n", text)
		return err
	}
	return d.print(env.Stdout)
}

// print shows it to people.
func (d *described) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	line("Reference", d.Reference)
	line("Digest", d.Digest)
	line("Media type", d.MediaType)
	if len(d.Platforms) > 0 {
		fmt.Fprintf(w, "Images:\n")
		for _, e := range d.Platforms {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", cli.Quote(e.Platform), e.Kind, e.Digest)
		}
	}
	switch d.Kind {
	case "oci":
		line("Kind", "OCI image")
	case "nydus":
		line("Kind", "Nydus image, RAFS v"+cli.Quote(d.FSVersion))
	default:
		return w.Flush()
	}
	line("Platform", cli.Quote(d.Platform))
	if len(d.Platforms) > 0 {
		line("Manifest", d.Manifest)
	}
	line("Conversion of", d.Subject)
	line("Size", cli.Bytes(uint64(d.Size)))
	for _, k := range slices.Sorted(maps.Keys(d.Annotations)) {
		line("Annotation", cli.Quote(k)+"="+cli.Quote(d.Annotations[k]))
	}
	fmt.Fprintf(w, "Layers:\n")
	for _, l := range d.Layers {
		fmt.Fprintf(w, "  %s\t%s\t%s", l.Kind, cli.Bytes(uint64(l.Size)), l.Digest)
		if l.Source != "" {
			fmt.Fprintf(w, "\tof %s", cli.Quote(short(l.Source)))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// checked is what check prints of a reference as JSON.
type checked struct {
	Reference string   `json:"reference"`
	Manifest  string   `json:"manifest"`
	Source    string   `json:"source,omitempty"`
	Layers    int      `json:"layers"`
	Entries   int      `json:"entries"`
	Names     int      `json:"names"`
	Problems  []string `json:"problems"`
}

// checkRef checks a converted image.
func (r *refOptions) checkRef(ctx context.Context, env *cli.Env, arg string, source *oci.Ref) error {
	ref, err := oci.Parse(arg)
	if err != nil {
		return adviseOCI(err)
	}
	show := &reporter{json: true} // events show on a terminal only
	o := oci.CheckOptions{Options: oci.Options{Access: r.access.one(), Platform: r.platform}, Source: source, SourceAccess: r.access.one()}
	if cli.Terminal(env.Stderr) {
		var done func()
		show.json = false
		o.Progress, done = show.start(env)
		defer done()
	}
	report, err := oci.Check(ctx, ref, o)
	if report == nil || err != nil && !errors.Is(err, oci.ErrDiffers) {
		return adviseOCI(err)
	}
	if r.json {
		problems := append([]string{}, report.Problems...)
		text, jerr := marshal(checked{ref.String(), report.Manifest.String(), report.Source.String(), report.Layers, report.Entries, report.Names, problems}, true)
		if jerr != nil {
			return jerr
		}
		fmt.Fprintf(env.Stdout, "%s\n", text)
		return err
	}
	for _, p := range report.Problems {
		env.Log.Error(p)
	}
	if err != nil {
		return err
	}
	if report.Source == "" {
		fmt.Fprintf(env.Stdout, "%s is right: every chunk of %d layers has its digest; no source to compare it with is known (--source)\n", report.Manifest, report.Layers)
		return nil
	}
	fmt.Fprintf(env.Stdout, "%s is %s: %d entries of %d layers and %d names of the merged tree are the same\n", report.Manifest, report.Source, report.Entries, report.Layers, report.Names)
	return nil
}
