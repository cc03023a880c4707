package doctor

import (
	"context"
	"fmt"
)

// A Level says how much a Finding matters.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // works, but not as it should
	Fault   Level = "fault"   // containers with images will not start, or not by way of the daemon
)

// A Finding is one thing that was looked at.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"`
	File    string `json:"file,omitempty"` // where to change it
	Key     string `json:"key,omitempty"`  // what to change there
	Found   string `json:"found"`
	Remedy  string `json:"remedy,omitempty"` // "" if there is nothing to do
}

// Options say what to look at.
type Options struct {
	// Root is the directory that is the node's /.
	Root string
	// Containerd, Snapshotter and Kata are configuration files on the node; "" for
	// where they usually are, and for Kata where containerd says.
	Containerd, Snapshotter, Kata string
	// Run runs a program (a path outside the node's root) and returns what it said
	// on both streams, with an error if it did not exit with 0. nil: the daemon is
	// not asked for its version and whether it takes its arguments.
	Run func(ctx context.Context, path string, args ...string) (string, error)
}

// A node is a node under examination.
type node struct {
	ctx      context.Context
	o        Options
	findings []Finding
	mounts   []mount
}

// Examine looks at everything and returns what it found, faults and what is well, in
// the order in which a container meets it.
func Examine(ctx context.Context, o Options) []Finding {
	n := &node{ctx: ctx, o: o}
	n.mounts = n.readMounts()
	s := n.snapshotter()
	runtimes := n.containerd(s)
	n.cache(s)
	daemons := map[string]bool{}
	for _, r := range runtimes {
		n.kata(r, daemons)
	}
	n.devices(runtimes, s)
	n.limits()
	return n.findings
}

// Faults counts the findings of level Fault.
func Faults(list []Finding) (count int) {
	for _, f := range list {
		if f.Level == Fault {
			count++
		}
	}
	return count
}

func (n *node) add(f Finding) { n.findings = append(n.findings, f) }

// well notes what is as it should be.
func (n *node) well(subject, format string, a ...any) {
	n.add(Finding{Level: OK, Subject: subject, Found: fmt.Sprintf(format, a...)})
}
