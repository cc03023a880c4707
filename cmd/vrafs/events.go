package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"vrafs/internal/cli"
	"vrafs/oci"
)

// reporter shows the events of a copy or a conversion: lines on a terminal that change
// in place, lines that stay elsewhere, or JSON, one object per line on standard output.
type reporter struct {
	json  bool
	quiet bool
	board *cli.Board
	out   io.Writer
	mu    sync.Mutex
}

// options are those that choose the form.
func (r *reporter) options() []*cli.Option {
	return []*cli.Option{
		{Long: "json", Help: "Print events and the result as JSON, one object per line", Set: cli.Flag(&r.json)},
		{Long: "quiet", Short: 'q', Help: "Print the result only", Set: cli.Flag(&r.quiet)},
	}
}

// start begins; call the result at the end.
func (r *reporter) start(env *cli.Env) (p *oci.Progress, done func()) {
	r.out, r.board = env.Stdout, cli.NewBoard(env.Stderr)
	return &oci.Progress{Func: r.event}, r.board.Close
}

// event shows one event.
func (r *reporter) event(e oci.Event) {
	switch {
	case r.json:
		if e.State != oci.StateRunning {
			_ = r.print(struct {
				Kind string `json:"event"`
				oci.Event
			}{"progress", e})
		}
		return
	case r.quiet || e.What == "image":
		return
	}
	key := e.What + " " + short(e.Name)
	if e.State == oci.StateRunning {
		r.board.Set(key, fmt.Sprintf("%s: %s", key, amount(e.Done, e.Total)))
		return
	}
	line := fmt.Sprintf("%s: %s", key, e.State)
	if e.Total > 0 {
		line = fmt.Sprintf("%s: %s, %s", key, e.State, cli.Bytes(uint64(e.Total)))
	}
	if e.Result != "" {
		line += fmt.Sprintf(" -> %s, %s", short(e.Result), cli.Bytes(uint64(e.Size)))
	}
	r.board.Done(key, line)
}

// print writes one object as a line.
func (r *reporter) print(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.out.Write(append(text, '\n'))
	return err
}

// short is a digest as people read it, anything else as it is.
func short(s string) string {
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return s
}

// amount is how much is done.
func amount(done, total int64) string {
	if total <= 0 {
		return cli.Bytes(uint64(done))
	}
	return fmt.Sprintf("%3d %% of %s", min(100, 100*done/total), cli.Bytes(uint64(total)))
}
