package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"vrafs/internal/apiclient"
	"vrafs/internal/cli"
)

// ctl is a command to a running daemon, ours or nydusd.
type ctl struct {
	self       *cli.Command
	sock       string
	raw        bool
	kind, what string // set log-level L, metrics KIND
	id         string
	interval   uint64
	cmd        mountCmd
	config     string
	place      string
}

// mountCmd is the body of a mount request.
type mountCmd struct {
	Source string `json:"source"`
	FSType string `json:"fs_type"`
	Config string `json:"config"`
}

func newCtl() *cli.Command {
	c := &ctl{cmd: mountCmd{FSType: "rafs"}}
	place := &cli.Option{Long: "mountpoint", Short: 'm', Value: "mountpoint", Help: "Where in the daemon's tree", Required: true, Set: cli.Str(&c.place)}
	c.self = &cli.Command{
		Name:  "ctl",
		About: "Ask or command a running daemon over its control socket, as nydusctl does",
		Options: []*cli.Option{
			{Long: "sock", Short: 'S', Value: "sock", Help: "The daemon's control socket (its --apisock)", Global: true, Set: cli.Str(&c.sock)},
			{Long: "raw", Short: 'r', Help: "Print the daemon's JSON as it is", Global: true, Set: cli.Flag(&c.raw)},
		},
		Commands: append([]*cli.Command{
			{Name: "info", About: "Show the daemon and what it serves", Run: c.with(c.info)},
			{Name: "set", About: "Change a setting", Run: c.with(c.set), Args: []*cli.Arg{
				{Name: "KIND", Help: "log-level", Required: true, Set: cli.Str(&c.kind)},
				{Name: "VALUE", Help: "Its new value", Required: true, Set: cli.Str(&c.what)},
			}},
			{Name: "metrics", About: "Show counters", Run: c.with(c.metrics), Args: []*cli.Arg{
				{Name: "CATEGORY", Help: "backend, cache or fsstats", Required: true, Set: cli.Str(&c.kind)},
			}, Options: []*cli.Option{
				{Long: "interval", Short: 'I', Value: "seconds", Help: "Show them again and again", Set: cli.Uint(&c.interval, 1, 1<<31)},
				{Long: "id", Value: "id", Help: "Mountpoint, for the cache the configuration's id; needed if there are several", Set: cli.Str(&c.id)},
			}},
			{Name: "mount", About: "Mount a file system", Run: c.with(c.mount), Options: []*cli.Option{
				{Long: "source", Short: 's', Value: "source", Help: "Bootstrap, or directory to share", Required: true, Set: cli.Str(&c.cmd.Source)},
				{Long: "config", Short: 'c', Value: "config", Help: "Configuration file", Set: cli.Str(&c.config)},
				place,
				{Long: "type", Short: 't', Value: "type", Help: "Kind of file system", Choices: []string{"rafs", "passthrough_fs"}, Default: "rafs", Set: cli.Str(&c.cmd.FSType)},
			}},
			{Name: "umount", About: "Unmount a file system", Run: c.with(c.umount), Options: []*cli.Option{place}},
			{Name: "upgrade", About: "Have a virtiofs daemon become the program that is installed at its path now, under its guest", Run: c.with(c.upgrade)},
		}, c.prefetchCommands()...),
	}
	return c.self
}

// with connects a command to its daemon.
func (c *ctl) with(run func(ctx context.Context, d *apiclient.Client, w io.Writer) error) func(context.Context, *cli.Env) error {
	return func(ctx context.Context, env *cli.Env) error {
		if c.sock == "" {
			return cli.Usagef(c.self, "the following required arguments were not provided:\n  --sock <sock>")
		}
		d := apiclient.New(c.sock)
		defer d.Close()
		return run(ctx, d, env.Stdout)
	}
}

// ask prints an answer: as it is with --raw, else by show.
func (c *ctl) ask(ctx context.Context, d *apiclient.Client, w io.Writer, target string, show func(w io.Writer, text []byte) error) error {
	text, err := d.Do(ctx, "GET", target, nil)
	if err != nil {
		return err
	}
	if c.raw {
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if err := show(t, text); err != nil {
		return fmt.Errorf("answer to %s: %w", target, err)
	}
	return t.Flush()
}

func (c *ctl) info(ctx context.Context, d *apiclient.Client, w io.Writer) error {
	return c.ask(ctx, d, w, "/api/v1/daemon", showInfo)
}

func (c *ctl) set(ctx context.Context, d *apiclient.Client, _ io.Writer) error {
	if c.kind != "log-level" {
		return cli.Usagef(c.self, "invalid value '%s' for 'KIND': only log-level can be set", c.kind)
	}
	body, err := json.Marshal(map[string]string{"log_level": c.what})
	if err != nil {
		return err
	}
	_, err = d.Do(ctx, "PUT", "/api/v1/daemon", body)
	return err
}

func (c *ctl) metrics(ctx context.Context, d *apiclient.Client, w io.Writer) error {
	m, ok := counters[c.kind]
	if !ok {
		return cli.Usagef(c.self, "invalid value '%s' for 'CATEGORY': one of backend, cache, fsstats", c.kind)
	}
	target := m.path
	if c.id != "" {
		target += "?id=" + url.QueryEscape(c.id)
	}
	if c.interval == 0 {
		return c.ask(ctx, d, w, target, m.show)
	}
	tick := time.NewTicker(time.Duration(c.interval) * time.Second)
	defer tick.Stop()
	for {
		if err := c.ask(ctx, d, w, target, m.show); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			fmt.Fprintln(w)
		}
	}
}

func (c *ctl) mount(ctx context.Context, d *apiclient.Client, _ io.Writer) error {
	if c.config != "" {
		text, err := os.ReadFile(c.config)
		if err != nil {
			return err
		}
		c.cmd.Config = string(text)
	}
	body, err := json.Marshal(c.cmd)
	if err != nil {
		return err
	}
	_, err = d.Do(ctx, "POST", "/api/v1/mount?mountpoint="+url.PathEscape(c.place), body)
	return err
}

func (c *ctl) umount(ctx context.Context, d *apiclient.Client, _ io.Writer) error {
	_, err := d.Do(ctx, "DELETE", "/api/v1/mount?mountpoint="+url.PathEscape(c.place), nil)
	return err
}
