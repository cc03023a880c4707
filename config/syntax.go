package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseJSON decodes one JSON object. Numbers keep their text.
func parseJSON(text []byte) (*document, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, jsonError(text, err)
	}
	if root == nil {
		return nil, errors.New("null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: text after the end", lineAt(text, d.InputOffset()))
	}
	return &document{root, func(path []string) int { return jsonLine(text, path) }}, nil
}

// jsonError says what is wrong and where. The decoder's own words show at most
// one character of the text.
func jsonError(text []byte, err error) error {
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("line %d: %w", lineAt(text, se.Offset), err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("line %d: unexpected end", lineAt(text, int64(len(text))))
	}
	return errors.New("not a JSON object")
}

func lineAt(text []byte, off int64) int {
	off = min(max(off, 0), int64(len(text)))
	return 1 + bytes.Count(text[:off], []byte{'\n'})
}

// jsonLine finds the line of the key at path, or of the nearest enclosing key
// that exists (0: none). The text is known to be well-formed.
func jsonLine(text []byte, path []string) int {
	d := json.NewDecoder(bytes.NewReader(text))
	line, depth := 0, 0 // depth: how many keys of path enclose the current object
	var stack []bool    // per open object or array: was it entered along path?
	key, isKey := "", false
	for {
		tok, err := d.Token()
		if err != nil {
			return line
		}
		onPath := len(stack) == 0 || (isKey && len(stack) == depth+1 && stack[len(stack)-1] &&
			depth < len(path) && key == path[depth])
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if onPath && len(stack) > 0 {
				depth++
			}
			stack = append(stack, onPath && tok == json.Delim('{'))
			isKey = false
			continue
		case json.Delim('}'), json.Delim(']'):
			if n := len(stack); stack[n-1] && depth > 0 {
				return line // the way went in here and ended: the key is missing
			}
			stack = stack[:len(stack)-1]
			isKey = false
			continue
		}
		if n := len(stack); n > 0 && stack[n-1] && !isKey {
			if s, ok := tok.(string); ok {
				key, isKey = s, true
				if len(stack) == depth+1 && depth < len(path) && key == path[depth] {
					line = lineAt(text, d.InputOffset())
					if depth == len(path)-1 {
						return line
					}
				}
				continue
			}
		}
		isKey = false
	}
}

// parseTOML decodes a TOML document. Its error gives the position only: the
// decoder's messages may quote the text.
func parseTOML(text []byte) (*document, error) {
	root := map[string]any{}
	if err := toml.Unmarshal(text, &root); err != nil {
		if de, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, col := de.Position()
			return nil, fmt.Errorf("line %d, column %d: neither JSON nor TOML", row, col)
		}
		return nil, errors.New("neither JSON nor TOML")
	}
	return &document{root, func(path []string) int { return tomlLine(text, path) }}, nil
}

// tomlLine finds the line of the key at path, or of the deepest table on the way.
// The text is known to be well-formed.
func tomlLine(text []byte, path []string) int {
	text = slices.Clone(text)
	var p unstable.Parser
	p.Reset(text)
	line, best := 0, 0
	var prefix []string
	visit := func(keys []string, at unstable.Range) {
		n := 0
		for n < len(keys) && n < len(path) && keys[n] == path[n] {
			n++
		}
		if n == len(keys) && n > best || n == len(path) && n > best {
			best, line = n, lineAt(text, int64(at.Offset))
		}
	}
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			var at unstable.Range
			prefix, at = appendKeys(nil, e)
			visit(prefix, at)
		case unstable.KeyValue:
			visitPair(prefix, e, visit)
		}
	}
	return line
}

// visitPair visits a key-value pair and the pairs of its inline tables.
func visitPair(prefix []string, e *unstable.Node, visit func([]string, unstable.Range)) {
	keys, at := appendKeys(slices.Clone(prefix), e)
	visit(keys, at)
	if v := e.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			visitPair(keys, it.Node(), visit)
		}
	}
}

func appendKeys(dst []string, e *unstable.Node) ([]string, unstable.Range) {
	var at unstable.Range
	for it := e.Key(); it.Next(); {
		dst, at = append(dst, string(it.Node().Data)), it.Node().Raw
	}
	return dst, at
}
