package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A tree is a configuration in TOML, put together of a file and of what is added to
// it, that knows where each key came from.
type tree struct {
	file   string // the first
	values map[string]any
	origin map[string]string // by dotted key
}

// load reads a file of the node; its error says why it can't be read.
func (n *node) load(file string) (*tree, error) {
	t := &tree{file: file, values: map[string]any{}, origin: map[string]string{}}
	return t, t.add(n, file)
}

// add lays another file over the tree, key by key.
func (t *tree) add(n *node, file string) error {
	text, err := n.read(file)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := toml.Unmarshal([]byte(text), &values); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return fmt.Errorf("line %d, column %d is no TOML: %w", row, column, err)
		}
		return err
	}
	t.merge(t.values, values, "", file)
	return nil
}

func (t *tree) merge(into, from map[string]any, prefix, file string) {
	for key, value := range from {
		name := prefix + key
		sub, isTable := value.(map[string]any)
		old, wasTable := into[key].(map[string]any)
		if isTable {
			if !wasTable {
				old = map[string]any{}
				into[key] = old
			}
			t.merge(old, sub, name+".", file)
			continue
		}
		into[key] = value
		t.origin[name] = file
	}
}

// get is the value at a path of keys, nil if there is none.
func (t *tree) get(keys ...string) any {
	var at any = t.values
	for _, k := range keys {
		table, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = table[k]
	}
	return at
}

func (t *tree) text(keys ...string) string { s, _ := t.get(keys...).(string); return s }
func (t *tree) flag(keys ...string) bool   { b, _ := t.get(keys...).(bool); return b }
func (t *tree) number(keys ...string) int64 {
	i, _ := t.get(keys...).(int64)
	return i
}

// table is the names of the tables below a path of keys, sorted.
func (t *tree) table(keys ...string) []string {
	m, _ := t.get(keys...).(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

// at is where a key was set, or else the first file.
func (t *tree) at(keys ...string) string {
	if file, ok := t.origin[strings.Join(keys, ".")]; ok {
		return file
	}
	return t.file
}

// fault says that the value of a key is wrong. What is shown of it is short.
func (n *node) fault(subject string, t *tree, remedy string, found string, keys ...string) {
	n.add(Finding{Level: Fault, Subject: subject, File: t.at(keys...), Key: dotted(keys), Found: found, Remedy: remedy})
}

// dotted is a path of keys as TOML writes it.
func dotted(keys []string) string {
	quoted := make([]string, len(keys))
	for i, k := range keys {
		if quoted[i] = k; strings.Contains(k, ".") {
			quoted[i] = "'" + k + "'"
		}
	}
	return strings.Join(quoted, ".")
}

// firstOf is the first of some files that is there, or else the first.
func (n *node) firstOf(files ...string) (string, bool) {
	for _, f := range files {
		if _, err := n.stat(f); err == nil {
			return f, true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return f, true // there, and reading it will say what is wrong
		}
	}
	return files[0], false
}

// absent notes a configuration file that is not there or can't be read.
func (n *node) absent(subject, file string, err error, remedy string) {
	n.add(Finding{Level: Fault, Subject: subject, File: file, Found: "cannot be read: " + why(err), Remedy: remedy})
}

// dropIns are the files beside a configuration of Kata's that change it.
func (n *node) dropIns(file string) []string {
	real, err := n.real(file)
	if err != nil {
		return nil
	}
	return n.glob(path.Join(path.Dir(real), "config.d", "*"))
}
