package filelist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// MaxSize bounds the text of a list in bytes.
const MaxSize = 64 << 20

// ErrFormat is the class of texts that are no list.
var ErrFormat = errors.New("not a list of files")

// A formatError is of class ErrFormat and says what is wrong without saying so.
type formatError struct{ why string }

func (e *formatError) Error() string        { return e.why }
func (e *formatError) Is(target error) bool { return target == ErrFormat }

// A File is one entry of a list.
type File struct {
	Path   string  `json:"path"`             // absolute
	Ranges []Range `json:"ranges,omitempty"` // nil: the whole file, or all below a directory
}

// A Range is an offset and a size in bytes.
type Range [2]uint64

// End is where a range ends, as far as there are such offsets.
func (r Range) End() uint64 {
	if r[1] > ^uint64(0)-r[0] {
		return ^uint64(0)
	}
	return r[0] + r[1]
}

// Parse reads a list: JSON if it looks like it, else lines. Lines are trimmed, blank
// ones don't count. Errors are of class ErrFormat.
func Parse(text []byte) ([]File, error) {
	if len(text) > MaxSize {
		return nil, &formatError{fmt.Sprintf("a list of files has at most %d bytes, this one has %d", MaxSize, len(text))}
	}
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
		return parseJSON(text)
	}
	list := []File{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f := ParseLine(line)
		if !path.IsAbs(f.Path) {
			return nil, &formatError{fmt.Sprintf("%.200q is not an absolute path", f.Path)}
		}
		list = append(list, f)
	}
	return list, nil
}

func parseJSON(text []byte) ([]File, error) {
	var v struct {
		Files []File `json:"files"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, &formatError{"list of files: " + err.Error()}
	}
	list := make([]File, 0, len(v.Files))
	for _, f := range v.Files {
		if f.Path == "" {
			return nil, &formatError{"an entry of files has no path"}
		}
		if f.Path = path.Clean("/" + f.Path); len(f.Ranges) == 0 {
			f.Ranges = nil
		}
		list = append(list, f)
	}
	return list, nil
}

// ParseLine reads one line. What follows a tab and isn't ranges belongs to the path.
func ParseLine(line string) File {
	i := strings.LastIndexByte(line, '\t')
	if i < 0 {
		return File{Path: line}
	}
	var ranges []Range
	for part := range strings.SplitSeq(line[i+1:], ",") {
		r, ok := parseRange(part)
		if !ok {
			return File{Path: line}
		}
		ranges = append(ranges, r)
	}
	return File{Path: line[:i], Ranges: ranges}
}

// parseRange reads first-last.
func parseRange(s string) (Range, bool) {
	a, b, ok := strings.Cut(s, "-")
	first, okA := number(a)
	last, okB := number(b)
	if !ok || !okA || !okB || last < first {
		return Range{}, false
	}
	return Range{first, last - first + 1}, true
}

// number reads decimal digits without a sign, up to the largest file size.
func number(s string) (uint64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}

// Line is the file as a line without its end.
func (f *File) Line() string {
	if len(f.Ranges) == 0 {
		return f.Path
	}
	var b strings.Builder
	b.WriteString(f.Path)
	for i, r := range f.Ranges {
		b.WriteByte("\t,"[min(i, 1)])
		fmt.Fprintf(&b, "%d-%d", r[0], r.End()-1)
	}
	return b.String()
}

// Lines is the list as lines. Paths that can't be one are left out, and those after the
// first of each that would be read as another one: names with line ends, with blanks at
// the end, and with what looks like ranges.
func Lines(list []File) []byte {
	var b bytes.Buffer
	for _, f := range list {
		if line := f.Line(); plain(line, &f) {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// plain reports whether a line is read as the file that it stands for.
func plain(line string, f *File) bool {
	if strings.ContainsAny(line, "\r\n\v\f\u0085\u2028\u2029") || strings.TrimSpace(line) != line {
		return false
	}
	got := ParseLine(line)
	return got.Path == f.Path && len(got.Ranges) == len(f.Ranges)
}

// JSON is the list as nydus-image optimize reads it.
func JSON(list []File) ([]byte, error) {
	if list == nil {
		list = []File{}
	}
	return json.Marshal(struct {
		Version string `json:"version"`
		Files   []File `json:"files"`
	}{"v1", list})
}

// Whole is the list without ranges, each file once: what nydusd and nydus-image take.
func Whole(list []File) []File {
	seen, out := map[string]bool{}, []File{}
	for _, f := range list {
		if !seen[f.Path] {
			seen[f.Path] = true
			out = append(out, File{Path: f.Path})
		}
	}
	return out
}
