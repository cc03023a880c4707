package api

import (
	"bytes"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// A Family is one Prometheus metric with all its label sets.
type Family struct {
	Name    string
	Help    string
	Type    string // counter, gauge or histogram
	Samples []Sample
}

// A Sample is one line of a family. Labels are pairs of name and value; Suffix is
// for histograms (_bucket, _sum, _count).
type Sample struct {
	Suffix string
	Labels []string
	Value  float64
}

var (
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// servePrometheus writes the text format, version 0.0.4.
func servePrometheus(w http.ResponseWriter, d Daemon) {
	var b bytes.Buffer
	for _, f := range d.Families() {
		f.write(&b)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes())
}

func (f *Family) write(b *bytes.Buffer) {
	if len(f.Samples) == 0 {
		return
	}
	b.WriteString("# HELP " + f.Name + " " + helpEscaper.Replace(f.Help) + "\n")
	b.WriteString("# TYPE " + f.Name + " " + f.Type + "\n")
	for _, s := range f.Samples {
		b.WriteString(f.Name + s.Suffix)
		for i := 0; i+1 < len(s.Labels); i += 2 {
			sep := ","
			if i == 0 {
				sep = "{"
			}
			b.WriteString(sep + s.Labels[i] + `="` + labelEscaper.Replace(s.Labels[i+1]) + `"`)
		}
		if len(s.Labels) > 1 {
			b.WriteByte('}')
		}
		b.WriteByte(' ')
		if s.Value == math.Trunc(s.Value) && math.Abs(s.Value) < 1<<53 {
			b.WriteString(strconv.FormatInt(int64(s.Value), 10))
		} else {
			b.WriteString(strconv.FormatFloat(s.Value, 'g', -1, 64))
		}
		b.WriteByte('\n')
	}
}
