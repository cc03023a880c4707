package main

import (
	"strconv"
	"strings"
)

// samples are those of a metric, by the labels as they are printed.
func (p *process) samples(name string) map[string]float64 {
	p.t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(p.must(200, "GET", "/metrics", "")) {
		key, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		labels, found := strings.CutPrefix(key, name)
		if !found || labels != "" && labels[0] != '{' {
			continue
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		all[labels] = n
	}
	if len(all) == 0 {
		p.t.Fatalf("there is no metric %s", name)
	}
	return all
}

// metric is the sample with one label, or without any where that is empty.
func (p *process) metric(name, label, value string) float64 {
	p.t.Helper()
	labels := ""
	if label != "" {
		labels = "{" + label + `="` + value + `"}`
	}
	n, found := p.samples(name)[labels]
	if !found {
		p.t.Fatalf("there is no metric %s%s", name, labels)
	}
	return n
}

// metricSum is the sum over all labels.
func (p *process) metricSum(name string) (sum float64) {
	p.t.Helper()
	for _, n := range p.samples(name) {
		sum += n
	}
	return sum
}
