package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"vrafs/internal/apiclient"
	"vrafs/internal/cli"
	"vrafs/internal/keeper"
)

// psLimit is how long one daemon may take to answer.
const psLimit = 2 * time.Second

// ps lists the daemons that run here, ours and nydusd's, by asking each over its
// own socket.
func (p *program) ps() *cli.Command {
	return &cli.Command{
		Name:  "ps",
		About: "List the daemons that run here, what each serves, how much of it is local, how far prefetch is and what fails",
		Run: func(ctx context.Context, env *cli.Env) error {
			found, err := findDaemons("/proc")
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "PID\tMODE\tSTATE\tMOUNTPOINT\tTYPE\tLOCAL\tPREFETCH\tERRORS\tAPI SOCKET")
			for _, d := range found {
				d.show(ctx, w)
			}
			return w.Flush()
		},
	}
}

// A runningDaemon is a process that looks like a daemon.
type runningDaemon struct {
	pid  int
	mode string
	api  string // absolute path of its socket, "" if it has none
}

// findDaemons looks at the command lines of all processes.
func findDaemons(proc string) ([]runningDaemon, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var found []runningDaemon
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended, or is not ours to see
		}
		argv := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		if d, ok := parseDaemon(argv); ok {
			d.pid = pid
			if cwd, err := os.Readlink(filepath.Join(proc, e.Name(), "cwd")); err == nil && d.api != "" && !filepath.IsAbs(d.api) {
				d.api = filepath.Join(cwd, d.api)
			}
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b runningDaemon) int { return a.pid - b.pid })
	return found, nil
}

// parseDaemon reads mode and socket from a daemon's arguments.
func parseDaemon(argv []string) (d runningDaemon, ok bool) {
	if name := filepath.Base(argv[0]); name != "vrafsd" && name != "nydusd" {
		return d, false
	}
	d.mode = "fuse"
	for i, a := range argv[1:] {
		switch {
		case a == "virtiofs" || a == "singleton" || a == "fuse":
			d.mode = a
		case a == "ps" || a == "help" || a == "--help" || a == "-h" || a == "--version" || a == "-V":
			return d, false
		case a == "--"+keeper.Option+"="+keeper.Hold:
			return d, false // it serves nothing
		case strings.HasPrefix(a, "--apisock="):
			d.api = strings.TrimPrefix(a, "--apisock=")
		case (a == "--apisock" || a == "-A") && i+2 < len(argv):
			d.api = argv[i+2]
		}
	}
	return d, true
}

// show prints a line for each mount of a daemon, or one for the daemon.
func (d *runningDaemon) show(ctx context.Context, w io.Writer) {
	line := func(state, place, kind, local, prefetch, errors string) {
		// Anybody may start a process that is called so, and answer on its socket.
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.pid, d.mode, cli.Quote(state), cli.Quote(place), cli.Quote(kind),
			local, prefetch, errors, cli.Quote(orDash(d.api)))
	}
	if d.api == "" {
		line("-", "-", "-", "-", "-", "-")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, psLimit)
	defer cancel()
	c := apiclient.New(d.api)
	defer c.Close()
	var info daemonInfo
	if err := c.Get(ctx, "/api/v1/daemon", &info); err != nil {
		line("no answer", "-", "-", "-", "-", "-")
		return
	}
	m := readMetrics(ctx, c)
	serves := info.serves(m)
	if len(serves) == 0 {
		line(info.State, "-", "-", "-", "-", "-")
		return
	}
	for _, place := range slices.Sorted(maps.Keys(serves)) {
		line(info.State, place, serves[place], m.local(place), m.prefetch(place), m.failures(place))
	}
}

// serves is what a daemon has mounted, or what is bound to a singleton, with its type.
// The latter is known by its counters: a nydusd that is asked for it aborts.
func (i *daemonInfo) serves(m metrics) map[string]string {
	types := map[string]string{}
	for place, b := range i.BackendCollection {
		types[place] = b.Type
	}
	if i.BackendCollection == nil {
		for key := range m {
			types[key[1]] = "bound"
		}
	}
	return types
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// daemonInfo is what is shown of the answer to GET daemon.
type daemonInfo struct {
	State             string `json:"state"`
	BackendCollection map[string]struct {
		Type string `json:"backend_type"`
	} `json:"backend_collection"`
}

// metrics are the sums of a daemon's counters by family and mountpoint. A daemon
// without /metrics has none.
type metrics map[[2]string]float64

func readMetrics(ctx context.Context, c *apiclient.Client) metrics {
	m := metrics{}
	text, _ := c.Do(ctx, "GET", "/metrics", nil)
	for l := range strings.Lines(string(text)) {
		m.line(strings.TrimSuffix(l, "\n"))
	}
	return m
}

// line adds one line of the text format.
func (m metrics) line(text string) {
	name, rest, ok := strings.Cut(text, "{")
	if !ok || strings.HasPrefix(text, "#") {
		return
	}
	const key = `mountpoint="`
	i, end := strings.Index(rest, key), strings.LastIndexByte(rest, '}')
	if i < 0 || end < 0 {
		return
	}
	place, _ := strconv.QuotedPrefix(rest[i+len(key)-1:])
	place, _ = strconv.Unquote(place)
	value, err := strconv.ParseFloat(strings.TrimSpace(rest[end+1:]), 64)
	if err == nil {
		m[[2]string{name, place}] += value
	}
}

// local is the share of an image's chunks that are in the cache.
func (m metrics) local(place string) string {
	all := m[[2]string{"vrafs_blob_chunks", place}]
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*m[[2]string{"vrafs_blob_chunks_local", place}]/all)
}

// prefetch is how far prefetch of an image is.
func (m metrics) prefetch(place string) string {
	get := func(name string) float64 { return m[[2]string{"vrafs_prefetch_" + name, place}] }
	wanted := get("wanted_bytes")
	switch {
	case get("running") == 0 && wanted == 0:
		return "-"
	case get("running") == 0:
		return "done"
	}
	state := fmt.Sprintf("%.0f%%", 100*(1-get("left_bytes")/max(1, wanted)))
	if get("paused") != 0 {
		state += ",paused"
	}
	return state
}

// failures says what fails, or none.
func (m metrics) failures(place string) string {
	var parts []string
	for _, f := range [...][2]string{
		{"vrafs_backend_errors_total", "backend"}, {"vrafs_cache_rejected_total", "digest"}, {"vrafs_cache_unstored_total", "unstored"},
	} {
		if n := m[[2]string{f[0], place}]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s=%.0f", f[1], n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}
