package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample is a program with one of each: values, flags, aliases, conflicts.
type sample struct {
	root                               *Command
	kind, bootstrap, dir, cache, level string
	request, source                    string
	inline, verbose                    bool
	size                               uint32
	list                               []string
}

func newSample() *sample {
	s := &sample{kind: "dir", level: "info"}
	run := func(context.Context, *Env) error { return nil }
	s.root = &Command{Name: "tool", About: "A tool", Version: "Version: \tv1", Options: []*Option{
		{Long: "log-level", Short: 'l', Value: "log-level", Global: true, Choices: Levels, Default: "info", Set: Str(&s.level)},
	}, Commands: []*Command{
		{Name: "create", About: "Make it", Options: []*Option{
			{Long: "type", Short: 't', Value: "type", Help: "Kind", Aliases: []string{"source-type"},
				Choices: []string{"dir", "tar-rafs"}, Default: "dir", Set: Str(&s.kind)},
			{Long: "bootstrap", Short: 'B', Value: "bootstrap", RequiredUnless: []string{"blob-dir"}, Set: Str(&s.bootstrap)},
			{Long: "blob-dir", Short: 'D', Value: "blob-dir", Set: Str(&s.dir)},
			{Long: "blob-cache-dir", Value: "blob-cache-dir", Conflicts: []string{"blob-dir", "inline"}, Set: Str(&s.cache)},
			{Long: "inline", Short: 'i', Set: Flag(&s.inline)},
			{Long: "verbose", Short: 'v', Set: Flag(&s.verbose)},
			{Long: "size", Value: "size", Set: PowerOfTwo(&s.size, 0x1000, 0x1000000, true)},
			{Long: "list", Value: "list", Set: List(&s.list)},
			{Long: "secret", Hidden: true, Requires: []string{"bootstrap"}, Set: func(string) error { return nil }},
		}, Args: []*Arg{{Name: "SOURCE", Help: "What", Required: true, Set: Str(&s.source)}}, Run: run},
		{Name: "inspect", About: "Look", Options: []*Option{
			{Long: "request", Short: 'R', Value: "request", Set: Trimmed(&s.request)},
		}, Args: []*Arg{{Name: "BOOTSTRAP", Set: Str(&s.source)}}, Run: run},
	}}
	return s
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string // fields that matter
	}{
		{"long and positional", []string{"create", "--type", "tar-rafs", "-B", "b", "src"}, "tar-rafs b src"},
		{"equals sign", []string{"create", "--type=tar-rafs", "--bootstrap=b=c", "src"}, "tar-rafs b=c src"},
		{"alias", []string{"create", "--source-type", "tar-rafs", "-Bb", "src"}, "tar-rafs b src"},
		{"short with equals sign", []string{"create", "-t=tar-rafs", "-B=b", "src"}, "tar-rafs b src"},
		{"cluster of flags", []string{"create", "-ivB", "b", "src"}, "dir b src inline verbose"},
		{"options after positional", []string{"create", "src", "-B", "b"}, "dir b src"},
		{"double dash", []string{"create", "-B", "b", "--", "-src"}, "dir b -src"},
		{"global before", []string{"-l", "warn", "create", "-Bb", "src"}, "dir b src warn"},
		{"global after", []string{"create", "-Bb", "src", "--log-level", "warn"}, "dir b src warn"},
		{"hexadecimal", []string{"create", "-Bb", "--size", "0x2000", "src"}, "dir b src 8192"},
		{"zero allowed", []string{"create", "-Bb", "--size", "0", "src"}, "dir b src"},
		{"comma list", []string{"create", "-Bb", "--list", "a,b", "src"}, "dir b src [a b]"},
		{"request in one argument", []string{"inspect", "-R blobs", "src"}, "dir  src blobs"},
		{"lone dash", []string{"create", "-B", "-", "src"}, "dir - src"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSample()
			if _, err := Parse(s.root, tt.args); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(s.kind, " ", s.bootstrap, " ", s.source)
			for _, extra := range []struct {
				on   bool
				text string
			}{{s.inline, "inline"}, {s.verbose, "verbose"}, {s.level != "info", s.level}, {s.size != 0, fmt.Sprint(s.size)},
				{len(s.list) > 0, fmt.Sprint(s.list)}, {s.request != "", s.request}} {
				if extra.on {
					got += " " + extra.text
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"unknown subcommand", []string{"crate"}, "error: unrecognized subcommand 'crate'"},
		{"unknown option", []string{"create", "--bootstrp", "x"}, "error: unexpected argument '--bootstrp' found"},
		{"unknown short", []string{"create", "-x"}, "error: unexpected argument '-x' found"},
		{"no abbreviation", []string{"create", "--boot", "x"}, "error: unexpected argument '--boot' found"},
		{"twice", []string{"create", "-Ba", "-Bb", "s"}, "error: the argument '--bootstrap <bootstrap>' cannot be used multiple times"},
		{"no value", []string{"create", "-B"}, "error: a value is required for '--bootstrap <bootstrap>' but none was supplied"},
		{"option as value", []string{"create", "-B", "--inline", "s"}, "error: a value is required for '--bootstrap <bootstrap>'"},
		{"value for flag", []string{"create", "--inline=yes", "s"}, "error: unexpected value 'yes' for '--inline' found; no more were expected"},
		{"bad choice", []string{"create", "-t", "x", "s"}, "error: invalid value 'x' for '--type <type>'\n  [possible values: dir, tar-rafs]"},
		{"bad number", []string{"create", "--size", "3", "s"}, "error: invalid value '3' for '--size <size>': must be a power of two"},
		{"missing", []string{"create", "s"}, "error: the following required arguments were not provided:\n  --bootstrap <bootstrap>\n\nUsage: tool create [OPTIONS] <SOURCE>"},
		{"missing positional", []string{"create", "-Bb"}, "error: the following required arguments were not provided:\n  <SOURCE>"},
		{"requires", []string{"create", "-Dd", "--secret", "s"}, "not provided:\n  --bootstrap <bootstrap>"},
		{"conflict", []string{"create", "--blob-cache-dir", "c", "-D", "d", "s"}, "error: the argument '--blob-dir <blob-dir>' cannot be used with '--blob-cache-dir <blob-cache-dir>'"},
		{"conflict with flag", []string{"create", "-i", "-Bb", "--blob-cache-dir", "c", "s"}, "error: the argument '--inline' cannot be used with '--blob-cache-dir <blob-cache-dir>'"},
		{"too many", []string{"create", "-Bb", "s", "t"}, "error: unexpected argument 't' found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(newSample().root, tt.args)
			var out, errs bytes.Buffer
			if got := Report(err, &out, &errs); got != StatusUsage || out.Len() > 0 {
				t.Errorf("got status %d and %q on stdout", got, &out)
			}
			if got := errs.String(); !strings.Contains(got, tt.want) || !strings.HasSuffix(got, "\nFor more information, try '--help'.\n") {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestHelpListsEverything(t *testing.T) {
	for _, args := range [][]string{{"create", "-h"}, {"create", "--help"}, {"help", "create"}, {"create", "-i", "-h"}} {
		_, err := Parse(newSample().root, args)
		var out, errs bytes.Buffer
		if got := Report(err, &out, &errs); got != StatusOK || errs.Len() > 0 {
			t.Fatalf("%q: got status %d and %q on stderr", args, got, &errs)
		}
		for _, want := range []string{"Make it\n\nUsage: tool create [OPTIONS] <SOURCE>\n", "--type <type>", "tar-rafs", "--source-type", "--log-level", "[default: dir]", "-h, --help"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: %q is missing in\n%s", args, want, &out)
			}
		}
		if strings.Contains(out.String(), "--secret") {
			t.Errorf("%q: shows a hidden option", args)
		}
	}
}

func TestBareProgramPrintsUsage(t *testing.T) {
	_, err := Parse(newSample().root, nil)
	var out, errs bytes.Buffer
	if got := Report(err, &out, &errs); got != StatusOK || !strings.Contains(out.String(), "Usage: tool [OPTIONS] [COMMAND]") {
		t.Errorf("got status %d, %q, %q", got, &out, &errs)
	}
}

func TestReport(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"plain", errors.New("no"), 1, "Error: no\n"},
		{"one cause", fmt.Errorf("open image: %w", errors.New("zero")), 1, "Error: open image\n\nCaused by:\n    zero\n"},
		{"two causes", fmt.Errorf("a: %w", fmt.Errorf("b: %w", errors.New("c"))), 1, "Error: a\n\nCaused by:\n    0: b\n    1: c\n"},
		{"path error is one step", fmt.Errorf("x: %w", &fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}), 1,
			"Error: x\n\nCaused by:\n    open p: file does not exist\n"},
		{"status", &StatusError{2, errors.New("no")}, 2, "Error: no\n"},
		{"first_hint_stays", Hint(fmt.Errorf("a: %w", Hint(errors.New("b"), "give -D")), "give -C"), 1, "Error: a\n\nCaused by:\n    b\n\nHint: give -D.\n"},
		{"hint", Hint(fmt.Errorf("a: %w", errors.New("b")), "give -D"), 1, "Error: a\n\nCaused by:\n    b\n\nHint: give -D.\n"},
		{"what acts on a terminal", errors.New("\x1b[31mred\r\u009b \xffé\ufffd\ttab"), 1, "Error: \\x1b[31mred\\r\\u009b \\xffé\ufffd\ttab\n"},
		{"class below the text", fmt.Errorf("%w", &classed{}), 1, "Error: inode at 0x40\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if got := Report(tt.err, &out, &errs); got != tt.status || errs.String() != tt.want || out.Len() > 0 {
				t.Errorf("got %d %q %q, want %d %q", got, &errs, &out, tt.status, tt.want)
			}
		})
	}
}

type classed struct{}

func (*classed) Error() string { return "inode at 0x40" }
func (*classed) Unwrap() error { return errors.New("corrupt") }

func TestLogFormat(t *testing.T) {
	at := time.Date(2026, 7, 24, 8, 15, 30, 123456789, time.FixedZone("", 8*3600))
	var b bytes.Buffer
	h := NewLogHandler(&b, LogOptions{Level: slog.LevelDebug, Now: func() time.Time { return at }})
	write := func(l slog.Level, msg string, attrs ...slog.Attr) {
		r := slog.NewRecord(time.Time{}, l, msg, 0)
		r.AddAttrs(attrs...)
		h.Handle(t.Context(), r)
	}
	write(slog.LevelInfo, "hello")
	write(slog.LevelInfo, "two\nlines", slog.Int("n", 1), slog.String("s", "a b"))
	want := "[2026-07-24 08:15:30.123456 +08:00] INFO hello\n" +
		"[2026-07-24 08:15:30.123456 +08:00] INFO two\nlines n=1 s=\"a b\"\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", &b, want)
	}
	b.Reset()
	write(slog.LevelInfo, "clear \x1b[2J \u009b2J", slog.String("odd", "\u009b2J"), slog.String("cut", "\x9b"))
	if got := b.String(); !strings.HasSuffix(got, ` INFO clear \x1b[2J \u009b2J odd="\u009b2J" cut="\x9b"`+"\n") {
		t.Errorf("got %q", got)
	}
	b.Reset()
	slog.New(h).With("k", "v").WithGroup("g").Warn("careful", "n", 2)
	if got := b.String(); !strings.Contains(got, "] WARN [cli/cli_test.go:") || !strings.HasSuffix(got, "] careful k=v g.n=2\n") {
		t.Errorf("got %q", got)
	}
	b.Reset()
	slog.New(h).Log(t.Context(), LevelTrace, "hidden")
	if b.Len() > 0 {
		t.Errorf("got %q below the level", &b)
	}
}

func TestLogFileAddsExtension(t *testing.T) {
	dir := t.TempDir()
	f, err := LogFile(filepath.Join(dir, "new", "log"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Stat(filepath.Join(dir, "new", "log.log")); err != nil {
		t.Error(err)
	}
}

func TestVersionBlock(t *testing.T) {
	lines := strings.Split(ThisBuild().Block(), "\n")
	fields := strings.Fields(lines[0])
	if len(fields) != 2 || fields[0] != "Version:" || !strings.HasPrefix(fields[1], "v2.") {
		t.Errorf("got %q", lines[0])
	}
	if len(lines) != 5 || !strings.HasPrefix(lines[1], "Git Commit: ") {
		t.Errorf("got %q", lines)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
