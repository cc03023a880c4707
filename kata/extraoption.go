package kata

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrExtraOption is the class of mount options that a runtime refuses.
var ErrExtraOption = errors.New("bad extraoption")

const (
	extraOptionKey = "extraoption="
	maxExtraOption = 4 << 20 // bytes of base64; a daemon's configuration has 1 MiB at most
)

// An ExtraOption is what a snapshotter tells a runtime about a container's image.
type ExtraOption struct {
	Source      string `json:"source"`      // bootstrap file
	Config      string `json:"config"`      // the daemon's configuration, with credentials
	SnapshotDir string `json:"snapshotdir"` // has fs/ and work/ for the overlay
	FSVersion   string `json:"fs_version"`  // v5 or v6; may be missing for the Go runtime
}

// String leaves the credentials out.
func (o ExtraOption) String() string {
	return fmt.Sprintf("source %q, snapshotdir %q, fs_version %q, config of %d bytes", o.Source, o.SnapshotDir, o.FSVersion, len(o.Config))
}

// ParseExtraOption finds and decodes the extraoption among a mount's options, by
// the rules of one runtime. Errors are of class ErrExtraOption and show nothing of
// the option's text, which holds credentials.
func ParseExtraOption(options []string, by Runtime) (ExtraOption, error) {
	text := ""
	for _, o := range options {
		if value, ok := strings.CutPrefix(o, extraOptionKey); ok {
			text = value
			if by == Rust { // the first one counts, in the Go runtime the last
				break
			}
		}
	}
	if text == "" {
		return ExtraOption{}, fmt.Errorf("%w: there is none among %d mount options; set enable_nydus_overlayfs in nydus-snapshotter's [snapshot]", ErrExtraOption, len(options))
	}
	if len(text) > maxExtraOption {
		return ExtraOption{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrExtraOption, len(text), maxExtraOption)
	}
	var o ExtraOption
	var err error
	if by == Rust {
		o, err = parseRust(text)
	} else {
		o, err = parseGo(text)
	}
	if err != nil {
		return ExtraOption{}, fmt.Errorf("%w: %w", ErrExtraOption, err)
	}
	return o, nil
}

// parseGo: keys in any case, the last of equals counts, no member may be empty.
func parseGo(text string) (o ExtraOption, err error) {
	body, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return o, err
	}
	var known struct{ Source, Config, SnapshotDir string }
	if err := json.Unmarshal(body, &known); err != nil {
		return o, cleanJSON(err)
	}
	o = ExtraOption{Source: known.Source, Config: known.Config, SnapshotDir: known.SnapshotDir}
	for _, m := range []struct{ name, value string }{{"source", o.Source}, {"config", o.Config}, {"snapshotdir", o.SnapshotDir}} {
		if m.value == "" {
			return o, fmt.Errorf("%s is missing or empty", m.name)
		}
	}
	// The runtime does not look at it, so it may be anything.
	var more struct {
		FSVersion any `json:"fs_version"`
	}
	if json.Unmarshal(body, &more) == nil {
		o.FSVersion, _ = more.FSVersion.(string)
	}
	return o, nil
}

// parseRust: padding and last bits of the base64 count, keys are exact and come
// once, all four must be there as strings, which may be empty but for the version.
func parseRust(text string) (o ExtraOption, err error) {
	if strings.ContainsAny(text, "\r\n") { // Go's decoder skips them
		return o, errors.New("a line break in the base64 text")
	}
	body, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return o, err
	}
	if !utf8.Valid(body) {
		return o, errors.New("not UTF-8")
	}
	members := map[string]*string{"source": &o.Source, "config": &o.Config, "snapshotdir": &o.SnapshotDir, "fs_version": &o.FSVersion}
	if err := exactStrings(body, members); err != nil {
		return o, err
	}
	if o.FSVersion != "v5" && o.FSVersion != "v6" {
		return o, errors.New("fs_version is neither v5 nor v6")
	}
	return o, nil
}

// exactStrings reads an object that has each of members once, as a string.
func exactStrings(body []byte, members map[string]*string) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return cleanJSON(err)
		}
		name, _ := key.(string)
		var value any
		if err := d.Decode(&value); err != nil {
			return cleanJSON(err)
		}
		into := members[name]
		if into == nil {
			continue
		}
		s, ok := value.(string)
		if !ok || seen[name] {
			return fmt.Errorf("%s is no string, or is there twice", name)
		}
		*into, seen[name] = s, true
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !seen[name] {
			return fmt.Errorf("%s is missing", name)
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return cleanJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text behind the JSON object")
	}
	return nil
}

// cleanJSON says where a JSON text is wrong, without what stands there.
func cleanJSON(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("malformed JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s of the wrong type, at byte %d of the JSON", kind.Field, kind.Offset)
	}
	return errors.New("malformed JSON")
}
