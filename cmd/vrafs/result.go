package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"vrafs/build"
	"vrafs/internal/cli"
)

// outputJSON is the file of --output-json. Clients read blobs, bootstrap,
// fs_version and compressor.
type outputJSON struct {
	Version           string   `json:"version"`
	Bootstrap         string   `json:"bootstrap"`
	Blobs             []string `json:"blobs"`
	ExternalBootstrap string   `json:"external_bootstrap"`
	ExternalBlobs     []string `json:"external_blobs"`
	Trace             trace    `json:"trace"`
	FSVersion         string   `json:"fs_version"`
	Compressor        string   `json:"compressor"`
}

type trace struct {
	ConsumedTime     map[string]float64 `json:"consumed_time"` // seconds
	RegisteredEvents map[string]any     `json:"registered_events"`
}

func outputOption(p *string) *cli.Option {
	return &cli.Option{Long: "output-json", Short: 'J', Value: "output-json", Help: "Write the result to this file as JSON", Set: cli.Str(p)}
}

// newOutput turns a result into its JSON form.
func newOutput(r *build.Result) *outputJSON {
	o := &outputJSON{
		Version:           cli.ThisBuild().ID(),
		Bootstrap:         r.Bootstrap,
		Blobs:             distinct(r.Blobs),
		ExternalBootstrap: r.ExternalBootstrap,
		ExternalBlobs:     distinct(r.ExternalBlobs),
		FSVersion:         versionName(r.Version),
		Compressor:        r.Compressor.String(),
		Trace:             newTrace(),
	}
	e := o.Trace.RegisteredEvents
	e["blob_uncompressed_size"], e["dedup_uncompressed_size"], e["dedup_chunks"] = r.DataSize, r.DedupSize, r.DedupCount
	for _, s := range r.Stages {
		o.Trace.ConsumedTime[s.Name] = s.Took.Seconds()
	}
	return o
}

// newTrace says who ran the command; more is added by what ran.
func newTrace() trace {
	return trace{ConsumedTime: map[string]float64{}, RegisteredEvents: map[string]any{
		"euid": strconv.Itoa(os.Geteuid()),
		"egid": strconv.Itoa(os.Getegid()),
	}}
}

// distinct drops repeated ids, and makes nil an empty list: clients iterate.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	list := []string{}
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}

// writeJSON stores v at path, if there is one; pretty is the form of all results
// but check's.
func writeJSON(path string, v any, pretty bool) error {
	if path == "" {
		return nil
	}
	text, err := marshal(v, pretty)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func marshal(v any, pretty bool) ([]byte, error) {
	if pretty {
		return json.MarshalIndent(v, "", "  ")
	}
	return json.Marshal(v)
}

// logSuccess writes the message that ends every build.
func logSuccess(env *cli.Env, r *build.Result) {
	ids, err := marshal(distinct(r.Blobs), false)
	if err != nil {
		return
	}
	meta := r.Bootstrap
	if meta == "" {
		meta = "<none>"
	}
	env.Log.Info(fmt.Sprintf("successfully built RAFS filesystem: \nmeta blob path: %s\ndata blob size: 0x%x\ndata blobs: %s", meta, r.BlobSize, spaced(ids)))
}

// spaced writes ["a","b"] as ["a", "b"].
func spaced(list []byte) string {
	out := make([]byte, 0, len(list)+8)
	for i, c := range list {
		out = append(out, c)
		if c == ',' && list[i+1] == '"' {
			out = append(out, ' ')
		}
	}
	return string(out)
}

// progress shows build's progress on a terminal. Call the second result at the end.
func progress(env *cli.Env) (build.Progress, func()) {
	p := cli.NewProgress(env.Stderr)
	if p == nil {
		return nil, func() {}
	}
	return p.Update, p.Done
}
