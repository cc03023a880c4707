package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"time"

	"vrafs/internal/cli"
	"vrafs/kata/doctor"
)

// A doctorTool holds the command line of vrafs doctor.
type doctorTool struct {
	o      doctor.Options
	asJSON bool
	noRun  bool
}

func newDoctor() *cli.Command {
	d := &doctorTool{o: doctor.Options{Root: "/"}}
	return &cli.Command{
		Name: "doctor", About: "Look over a node that is to run Kata Containers, and say what to change",
		Options: []*cli.Option{
			{Long: "root", Value: "DIR", Help: "Directory that is the node's /", Default: "/", Set: cli.Str(&d.o.Root)},
			{Long: "kata-config", Value: "file", Help: "Kata's configuration on the node (default: what containerd names)", Set: cli.Str(&d.o.Kata)},
			{Long: "containerd-config", Value: "file", Help: "containerd's configuration on the node (default: /etc/containerd/config.toml)", Set: cli.Str(&d.o.Containerd)},
			{Long: "snapshotter-config", Value: "file", Help: "nydus-snapshotter's configuration on the node (default: /etc/nydus/config.toml)", Set: cli.Str(&d.o.Snapshotter)},
			{Long: "no-run", Help: "Do not ask the daemon itself whether it takes its arguments", Set: cli.Flag(&d.noRun)},
			{Long: "json", Help: "Print everything that was looked at, as JSON", Set: cli.Flag(&d.asJSON)},
		},
		Run: d.run,
	}
}

// askLimit is how long the daemon may take to say what it is.
const askLimit = 10 * time.Second

// ask runs the daemon of the node.
func ask(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		out = []byte(err.Error())
	}
	return string(out), err
}

func (d *doctorTool) run(ctx context.Context, env *cli.Env) error {
	if !d.noRun {
		d.o.Run = ask
	}
	list := doctor.Examine(ctx, d.o)
	print := text
	if d.asJSON {
		print = asJSON
	}
	if err := print(env.Stdout, list); err != nil {
		return err
	}
	if n := doctor.Faults(list); n > 0 {
		return fmt.Errorf("%d faults", n)
	}
	return nil
}

func asJSON(w io.Writer, list []doctor.Finding) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{"faults": doctor.Faults(list), "findings": list})
}

// text prints a line for what is well, and three for what is not.
func text(w io.Writer, list []doctor.Finding) error {
	for _, f := range list {
		if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", f.Level, f.Subject, f.Found); err != nil {
			return err
		}
		if f.Remedy == "" {
			continue
		}
		where := f.File
		if f.Key != "" {
			where += ": " + f.Key
		}
		if _, err := fmt.Fprintf(w, "         in %s\n         %s\n", where, f.Remedy); err != nil {
			return err
		}
	}
	return nil
}
