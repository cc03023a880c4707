package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"vrafs/internal/apiclient"
	"vrafs/internal/cli"
	"vrafs/internal/filelist"
)

// A ctlPrefetch holds the command lines about what is fetched of images before it is
// read.
type ctlPrefetch struct {
	*ctl
	list  string
	all   bool
	form  string
	place string
}

// forms are how a list of files can be shown.
var forms = []string{"ranges", "plain", "json"}

func (c *ctl) prefetchCommands() []*cli.Command {
	p := &ctlPrefetch{ctl: c}
	place := func() *cli.Option {
		return &cli.Option{Long: "mountpoint", Short: 'm', Value: "mountpoint", Help: "Where the image is in the daemon's tree", Default: "/", Set: cli.Str(&p.place)}
	}
	return []*cli.Command{
		{Name: "prefetch", About: "Show how far the prefetch of an image is, or command it", Options: []*cli.Option{place()}, Run: c.with(p.status), Commands: []*cli.Command{
			{Name: "pause", About: "Let prefetch ask for nothing more", Options: []*cli.Option{place()}, Run: c.with(p.pause(true))},
			{Name: "resume", About: "Let it go on", Options: []*cli.Option{place()}, Run: c.with(p.pause(false))},
			{Name: "start", About: "Fetch files, or everything", Run: c.with(p.start), Options: []*cli.Option{
				place(),
				{Long: "files", Value: "files", Help: "List of files, in the order in which they shall come", Set: cli.Str(&p.list)},
				{Long: "all", Help: "Then everything else", Set: cli.Flag(&p.all)},
			}},
		}},
		{Name: "files", About: "List what was read of an image so far, in that order: a list for prefetch", Run: c.with(p.files), Options: []*cli.Option{
			place(),
			{Long: "format", Value: "format", Help: "Lines with ranges, plain paths as nydusd takes them, or JSON as nydus-image optimize does", Choices: forms, Default: forms[0], Set: cli.Str(&p.form)},
		}},
	}
}

func (p *ctlPrefetch) target(path string) string {
	return path + "?mountpoint=" + url.PathEscape(p.at())
}

func (p *ctlPrefetch) at() string {
	if p.place == "" {
		return "/"
	}
	return p.place
}

func (p *ctlPrefetch) status(ctx context.Context, d *apiclient.Client, w io.Writer) error {
	return p.ask(ctx, d, w, p.target("/api/v1/prefetch"), showPrefetch)
}

func showPrefetch(w io.Writer, text []byte) error {
	var v struct {
		State       string
		Total, Done uint64
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	row(w, "State", v.State)
	row(w, "Wanted", fmt.Sprintf("%d bytes", v.Total))
	row(w, "Left", fmt.Sprintf("%d bytes", v.Total-min(v.Done, v.Total)))
	return nil
}

func (p *ctlPrefetch) put(ctx context.Context, d *apiclient.Client, cmd any) error {
	body, err := json.Marshal(cmd)
	if err != nil {
		return err
	}
	_, err = d.Do(ctx, "PUT", p.target("/api/v1/prefetch"), body)
	return err
}

func (p *ctlPrefetch) pause(on bool) func(context.Context, *apiclient.Client, io.Writer) error {
	return func(ctx context.Context, d *apiclient.Client, _ io.Writer) error {
		return p.put(ctx, d, map[string]bool{"paused": on})
	}
}

func (p *ctlPrefetch) start(ctx context.Context, d *apiclient.Client, _ io.Writer) error {
	if p.list == "" && !p.all {
		return cli.Usagef(p.self, "prefetch start needs --files or --all")
	}
	cmd := struct {
		Files []filelist.File `json:"files,omitempty"`
		All   bool            `json:"all"`
	}{All: p.all}
	if p.list != "" {
		var err error
		if cmd.Files, err = readPatterns(nil, p.list); err != nil {
			return err
		}
	}
	return p.put(ctx, d, cmd)
}

func (p *ctlPrefetch) files(ctx context.Context, d *apiclient.Client, w io.Writer) error {
	text, err := d.Do(ctx, "GET", p.target("/api/v1/prefetch/files"), nil)
	if err != nil {
		return err
	}
	if p.raw || p.form == "json" {
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	}
	list, err := filelist.Parse(text)
	if err != nil {
		return fmt.Errorf("answer to files: %w", err)
	}
	if p.form == "plain" {
		list = filelist.Whole(list)
	}
	_, err = w.Write(filelist.Lines(list))
	return err
}
