package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
)

// MaxBody bounds a request body in bytes: a configuration of 1 MiB as a JSON
// string, most of it escaped.
const MaxBody = 4 << 20

// A bodyError is a body that can't be decoded, with nydusd's rendering.
type bodyError struct {
	why       string
	line, col int
}

func (e *bodyError) Error() string {
	return fmt.Sprintf("ParseBody(Error(%s, line: %d, column: %d))", quote(e.why), e.line, e.col)
}

var errBadRequest = &Error{Kind: BadRequest}

// readBody returns the body, which must not be empty.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, errBadRequest
	}
	p, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil || len(p) == 0 || len(p) > MaxBody {
		return nil, errBadRequest
	}
	return p, nil
}

// noBody checks that there is no body. One that is announced need not arrive.
func noBody(r *http.Request) error {
	if r.ContentLength > 0 {
		return errBadRequest
	}
	var b [1]byte
	if n, _ := io.ReadFull(r.Body, b[:]); n != 0 {
		return errBadRequest
	}
	return nil
}

// fields decodes a JSON object to its members. Unlike decoding into a struct this
// takes keys exactly as they are spelled.
func fields(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var m map[string]json.RawMessage
	if err := d.Decode(&m); err != nil {
		return nil, syntaxError(text, err)
	}
	if m == nil {
		return nil, errorAt(text, len(text), "invalid type: null, expected an object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errorAt(text, int(d.InputOffset()), "trailing characters")
	}
	return m, nil
}

func syntaxError(text []byte, err error) error {
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		if int(se.Offset) >= len(text) && se.Error() == "unexpected end of JSON input" {
			return errorAt(text, len(text), "EOF while parsing a value")
		}
		return errorAt(text, int(se.Offset), se.Error())
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errorAt(text, len(text), "EOF while parsing a value")
	}
	return errorAt(text, 1, "invalid type, expected an object")
}

// errorAt renders a position as line and column, both from 1.
func errorAt(text []byte, off int, why string) error {
	off = min(max(off, 0), len(text))
	line := 1 + bytes.Count(text[:off], []byte{'\n'})
	col := off - (bytes.LastIndexByte(text[:off], '\n') + 1)
	return &bodyError{why, line, col}
}

// A memberReader reads members of one object; its first error sticks.
type memberReader struct {
	text []byte
	m    map[string]json.RawMessage
	err  error
}

func (r *memberReader) fail(why string) {
	if r.err == nil {
		r.err = errorAt(r.text, len(r.text), why)
	}
}

func (r *memberReader) str(key string, required bool) string {
	raw, ok := r.m[key]
	if !ok {
		if required {
			r.fail("missing field `" + key + "`")
		}
		return ""
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		r.fail("invalid type for `" + key + "`, expected a string")
		return ""
	}
	return *s
}

func (r *memberReader) has(key string) bool { return r.m[key] != nil }

// boolean reads true or false; absent is false.
func (r *memberReader) boolean(key string) (v bool) {
	if raw, ok := r.m[key]; ok {
		var p *bool
		if json.Unmarshal(raw, &p) != nil || p == nil {
			r.fail("invalid type for `" + key + "`, expected a boolean")
			return false
		}
		return *p
	}
	return false
}

// strs reads a list of texts; absent or null gives nil.
func (r *memberReader) strs(key string) []string {
	raw, ok := r.m[key]
	if !ok {
		return nil
	}
	var list []*string
	if json.Unmarshal(raw, &list) != nil {
		r.fail("invalid type for `" + key + "`, expected a sequence")
		return nil
	}
	if list == nil {
		return nil
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil {
			r.fail("invalid type for `" + key + "`, expected a string")
			return nil
		}
		out = append(out, *s)
	}
	return out
}

// parseMountCmd decodes the body of a mount request.
func parseMountCmd(text []byte) (MountCmd, error) {
	m, err := fields(text)
	if err != nil {
		return MountCmd{}, err
	}
	r := memberReader{text: text, m: m}
	cmd := MountCmd{
		Source:        r.str("source", true),
		FSType:        r.str("fs_type", false),
		Config:        r.str("config", true),
		PrefetchFiles: r.strs("prefetch_files"),
	}
	if r.err != nil {
		return MountCmd{}, r.err
	}
	for _, f := range cmd.PrefetchFiles {
		if !path.IsAbs(f) {
			return MountCmd{}, &Error{Other, "invalid prefetch file list"}
		}
	}
	return cmd, nil
}

// parseLogLevel decodes the body of PUT daemon.
func parseLogLevel(text []byte) (string, error) {
	m, err := fields(text)
	if err != nil {
		return "", err
	}
	r := memberReader{text: text, m: m}
	level := r.str("log_level", true)
	return level, r.err
}

// parseOverride decodes the body of PUT config: a flat map of texts.
func parseOverride(text []byte) (map[string]string, error) {
	m, err := fields(text)
	if err != nil {
		return nil, err
	}
	r := memberReader{text: text, m: m}
	out := make(map[string]string, len(m))
	for k := range m {
		out[k] = r.str(k, true)
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}
