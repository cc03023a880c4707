package doctor

import (
	"path"
	"slices"
	"strings"

	"vrafs/kata"
)

const subjContainerd = "containerd"

// A runtime is one of Kata's that containerd knows.
type runtime struct {
	name string // containerd's name for it
	file string // its configuration, "" for the default one
	by   kata.Runtime
	qemu bool // it runs QEMU; set when its configuration was read
}

// criTables are where containerd's configuration has its tables, by its version.
type criTables struct{ images, runtimes, byDefault []string }

func tablesOf(version int64) criTables {
	if version >= 3 {
		images := []string{"plugins", "io.containerd.cri.v1.images"}
		return criTables{images, []string{"plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"}, append(slices.Clone(images), "snapshotter")}
	}
	c := []string{"plugins", "io.containerd.grpc.v1.cri", "containerd"}
	return criTables{c, append(slices.Clone(c), "runtimes"), append(slices.Clone(c), "snapshotter")}
}

// containerd looks at containerd's configuration and returns the runtimes of Kata
// that get images from the snapshotter.
func (n *node) containerd(s snapshotter) []*runtime {
	file := n.o.Containerd
	if file == "" {
		file = kata.ContainerdFile1
	}
	t, err := n.load(file)
	if err != nil {
		n.absent(subjContainerd, file, err, "print what it has to hold with: vrafs kata config --file containerd")
		return n.given()
	}
	n.imports(t)
	before := len(n.findings)
	name := n.proxy(t, s)
	c := tablesOf(t.number("version"))
	key := func(table []string, more ...string) []string { return append(slices.Clone(table), more...) }
	if k := key(c.images, "disable_snapshot_annotations"); t.get(k...) != false {
		n.fault(subjContainerd, t, "set it to false", "the snapshotter does not learn which image a snapshot is of", k...)
	}
	if k := key(c.images, "discard_unpacked_layers"); t.flag(k...) {
		n.fault(subjContainerd, t, "set it to false", "layers are thrown away that the snapshotter still needs", k...)
	}
	list := n.runtimes(t, c, name)
	if len(n.findings) == before {
		n.well(subjContainerd, "%s: %d runtimes of Kata get images from snapshotter %s", file, len(list), name)
	}
	if n.o.Kata != "" || len(list) == 0 {
		return n.given()
	}
	return list
}

// given is the runtime whose configuration the caller named, or else the default one.
func (n *node) given() []*runtime {
	if n.o.Kata == "" {
		return []*runtime{{name: "kata", by: kata.Go}}
	}
	return []*runtime{{name: "kata", file: n.o.Kata, by: runtimeOf(n.o.Kata)}}
}

// runtimeOf guesses a runtime from a name that its packages use.
func runtimeOf(name string) kata.Runtime {
	if strings.Contains(name, "runtime-rs") {
		return kata.Rust
	}
	return kata.Go
}

// imports adds the files that a configuration imports.
func (n *node) imports(t *tree) {
	patterns, _ := t.get("imports").([]any)
	for _, p := range patterns {
		pattern, _ := p.(string)
		if !path.IsAbs(pattern) {
			pattern = path.Join(path.Dir(t.file), pattern)
		}
		for _, file := range n.glob(pattern) {
			if err := t.add(n, file); err != nil {
				n.absent(subjContainerd, file, err, "correct the file, or take it out of imports in "+t.file)
			}
		}
	}
}

// proxy finds the snapshotter's name in containerd.
func (n *node) proxy(t *tree, s snapshotter) string {
	for _, name := range t.table("proxy_plugins") {
		if t.text("proxy_plugins", name, "type") == "snapshot" && t.text("proxy_plugins", name, "address") == s.address {
			return name
		}
	}
	n.fault(subjContainerd, t, `add the table with type = "snapshot" and address = "`+s.address+`"`,
		"no proxy plugin of type snapshot has the address of nydus-snapshotter", "proxy_plugins", "nydus")
	return "nydus"
}

// runtimes lists the runtimes of Kata that use a snapshotter.
func (n *node) runtimes(t *tree, c criTables, snapshotter string) (list []*runtime) {
	known, last := 0, ""
	for _, name := range t.table(c.runtimes...) {
		at := append(slices.Clone(c.runtimes), name)
		kind := t.text(append(slices.Clone(at), "runtime_type")...)
		if !strings.HasPrefix(kind, "io.containerd.kata") {
			continue
		}
		known, last = known+1, name
		uses := t.text(append(slices.Clone(at), "snapshotter")...)
		if uses == "" {
			uses = t.text(c.byDefault...)
		}
		if uses != snapshotter {
			continue
		}
		file := t.text(append(slices.Clone(at), "options", "ConfigPath")...)
		list = append(list, &runtime{name: name, file: file, by: runtimeOf(kind + file + name)})
	}
	switch {
	case known == 0:
		n.fault(subjContainerd, t, "print the tables with: vrafs kata config --file containerd", "no runtime of Kata is there", c.runtimes...)
	case len(list) == 0:
		n.fault(subjContainerd, t, `set it to "`+snapshotter+`"`, "no runtime of Kata gets images from the snapshotter", append(slices.Clone(c.runtimes), last, "snapshotter")...)
	}
	return list
}
