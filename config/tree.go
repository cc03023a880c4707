package config

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A KeyError says which key of a document can't be read, and where it stands. It
// never carries the value.
type KeyError struct {
	Key  string // path from the top, for example "device.backend.config.host"
	Line int    // 1-based; 0 if the key is absent
	Why  string
}

func (e *KeyError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Key, e.Why)
	}
	return fmt.Sprintf("%s at line %d: %s", e.Key, e.Line, e.Why)
}

// A document is a decoded text: JSON or TOML as plain maps, and a way to find the
// line of a key, used only when something is wrong.
type document struct {
	root map[string]any
	line func(path []string) int
}

// A reader reads a document; its first error sticks.
type reader struct {
	doc *document
	err error
}

func (r *reader) root() table { return table{r: r, m: r.doc.root} }

func (r *reader) fail(path []string, why string) {
	if r.err == nil {
		r.err = &KeyError{strings.Join(path, "."), r.doc.line(path), why}
	}
}

// A table is one level of a document. The zero table (m == nil) has no keys.
type table struct {
	r    *reader
	path []string
	m    map[string]any
}

func (t table) at(key string) []string {
	return append(t.path[:len(t.path):len(t.path)], key)
}

// has reports whether key is there and not null.
func (t table) has(key string) bool { return t.m[key] != nil }

func (t table) wrong(key, want string, v any) {
	t.r.fail(t.at(key), "want "+want+", got "+kindOf(v))
}

func (t table) missing(key string) { t.r.fail(t.at(key), "missing") }

// table returns the table under key; ok is false if there is none.
func (t table) table(key string) (sub table, ok bool) {
	v := t.m[key]
	if v == nil {
		return table{r: t.r, path: t.at(key)}, false
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.wrong(key, "a table", v)
	}
	return table{r: t.r, path: t.at(key), m: m}, ok
}

// str reads a text into dst and reports whether it was there.
func (t table) str(key string, dst *string) bool {
	v := t.m[key]
	if v == nil {
		return false
	}
	s, ok := v.(string)
	if !ok {
		t.wrong(key, "a string", v)
		return false
	}
	*dst = s
	return true
}

func (t table) strReq(key string, dst *string) {
	if !t.has(key) {
		t.missing(key)
		return
	}
	t.str(key, dst)
}

func (t table) secret(key string, dst *Secret) {
	var s string
	if t.str(key, &s) {
		*dst = NewSecret(s)
	}
}

// secrets reads a table of texts.
func (t table) secrets(key string, dst *map[string]Secret) {
	s, ok := t.table(key)
	if !ok {
		return
	}
	*dst = map[string]Secret{}
	for name := range s.m {
		var v Secret
		s.secret(name, &v)
		(*dst)[name] = v
	}
}

func (t table) url(key string, dst *URL) {
	var s string
	if t.str(key, &s) {
		*dst = NewURL(s)
	}
}

func (t table) bool(key string, dst *bool) {
	v := t.m[key]
	if v == nil {
		return
	}
	b, ok := v.(bool)
	if !ok {
		t.wrong(key, "true or false", v)
		return
	}
	*dst = b
}

// uint reads a whole number from 0 to max.
func (t table) uint(key string, dst *uint64, max uint64) {
	v := t.m[key]
	if v == nil {
		return
	}
	n, ok := toUint(v)
	if !ok {
		t.wrong(key, "a whole number", v)
		return
	}
	if n > max {
		t.r.fail(t.at(key), fmt.Sprintf("above %d", max))
		return
	}
	*dst = n
}

func (t table) uint32(key string, dst *uint32) {
	n := uint64(*dst)
	t.uint(key, &n, math.MaxUint32)
	*dst = uint32(n)
}

func (t table) uint8(key string, dst *uint8) {
	n := uint64(*dst)
	t.uint(key, &n, math.MaxUint8)
	*dst = uint8(n)
}

func (t table) strs(key string, dst *[]string) {
	v := t.m[key]
	if v == nil {
		return
	}
	list, ok := v.([]any)
	if !ok {
		t.wrong(key, "a list of strings", v)
		return
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			t.wrong(key, "a list of strings", e)
			return
		}
		out = append(out, s)
	}
	*dst = out
}

// tables returns the list of tables under key.
func (t table) tables(key string) []table {
	v := t.m[key]
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.wrong(key, "a list of tables", v)
		return nil
	}
	out := make([]table, 0, len(list))
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			t.wrong(key, "a list of tables", e)
			return nil
		}
		out = append(out, table{r: t.r, path: t.at(key), m: m})
	}
	return out
}

func toUint(v any) (uint64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := strconv.ParseUint(v.String(), 10, 64)
		return n, err == nil
	case int64:
		return uint64(v), v >= 0
	case uint64:
		return v, true
	}
	return 0, false
}

func isInteger(v any) bool {
	_, ok := toUint(v)
	return ok
}

// kindOf names the type of a value without showing it.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number, int64, uint64, float64:
		if isInteger(v) {
			return "a whole number"
		}
		return "another number"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}
