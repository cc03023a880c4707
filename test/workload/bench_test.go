package workload

import (
	"slices"
	"testing"
	"time"
)

// rounds is how often each start is measured; the medians count.
const rounds = 3

// BenchmarkStart starts each program over a link of 10 MB/s and 20 ms, and over one that
// nothing slows down: after pulling and unpacking, and lazily, without prefetch, with a
// list of what was read, and with prefetch of everything.
func BenchmarkStart(b *testing.B) {
	for name, l := range map[string]link{"slow": slow, "loopback": loopback} {
		for i := range workloads {
			w := &workloads[i]
			b.Run(name+"/"+w.name, func(b *testing.B) { measure(b, w, l) })
		}
	}
}

func measure(b *testing.B, w *workload, l link) {
	s := newStage(b, l)
	im := s.push(w.image(b))
	var list string
	needed, err := s.lazily(im, w, variant{}, learn(b, &list))
	must(b, err)
	rows := []struct {
		name  string
		start func() (outcome, error)
	}{
		{"pull", func() (outcome, error) { return s.eagerly(im, w) }},
		{"lazy", func() (outcome, error) { return s.lazily(im, w, variant{amplify: ordinary}, nil) }},
		{"list", func() (outcome, error) {
			return s.lazily(im, w, variant{amplify: ordinary, prefetch: lists, list: list}, nil)
		}},
		{"all", func() (outcome, error) {
			return s.lazily(im, w, variant{amplify: ordinary, prefetch: all}, nil)
		}},
	}
	median := map[string]time.Duration{}
	for _, r := range rows {
		var took []time.Duration
		var last outcome
		for range rounds {
			o, err := r.start()
			must(b, err)
			took, last = append(took, o.took), o
		}
		slices.Sort(took)
		median[r.name] = took[rounds/2]
		b.Logf("%-6s %-5s %6.2f s (best %5.2f) %7.2f MB %4d requests", w.name, r.name,
			took[rounds/2].Seconds(), took[0].Seconds(), float64(last.bytes)/1e6, last.requests)
	}
	b.ReportMetric(0, "ns/op") // the time of the whole run says nothing
	b.ReportMetric(median["lazy"].Seconds()/median["pull"].Seconds(), "lazy/pull")
	b.ReportMetric(median["all"].Seconds()/median["lazy"].Seconds(), "all/lazy")
	if l.rate > 0 {
		wire := 2*2*l.delay.Seconds() + float64(needed.bytes)/float64(l.rate) // a connection, a request, the bytes
		b.ReportMetric(median["list"].Seconds()/wire, "list/wire")
	}
}
