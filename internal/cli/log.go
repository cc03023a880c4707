package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// LevelTrace is below slog.LevelDebug.
const LevelTrace = slog.Level(-8)

// Levels are the names of --log-level, lowest first.
var Levels = []string{"trace", "debug", "info", "warn", "error"}

// ParseLevel turns one of Levels into its value; anything else is LevelInfo.
func ParseLevel(name string) slog.Level {
	switch name {
	case "trace":
		return LevelTrace
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// LogOptions configure a log handler.
type LogOptions struct {
	Level slog.Leveler // nil: info
	Color bool         // colour the level's name
	// Now is the clock for records without a time; nil: time.Now.
	Now func() time.Time
}

// NewLogHandler writes records to w in nydusd's form, one Write per record:
//
//	[2026-07-24 08:15:30.123456 +08:00] INFO message key=value
//	[2026-07-24 08:15:30.123456 +08:00] WARN [file.go:12] message
//
// A message may have several lines. Errors of w are ignored: a full disk must not
// stop the program that logs.
func NewLogHandler(w io.Writer, o LogOptions) slog.Handler {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &logHandler{out: &lockedWriter{w: w}, opts: o}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

type logHandler struct {
	out    *lockedWriter
	opts   LogOptions
	attrs  string // already formatted
	prefix string // of the names in open groups
}

// Enabled reports whether records of level l are written.
func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.opts.Level.Level() }

// Handle writes one record.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	t := r.Time
	if t.IsZero() {
		t = h.opts.Now()
	}
	b := make([]byte, 0, 256)
	b = append(b, '[')
	b = t.AppendFormat(b, "2006-01-02 15:04:05.000000 -07:00")
	b = append(b, "] "...)
	b = append(b, levelName(r.Level, h.opts.Color)...)
	b = append(b, ' ')
	if r.Level != slog.LevelInfo && r.PC != 0 {
		f, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		b = fmt.Appendf(b, "[%s:%d] ", shortFile(f.File), f.Line)
	}
	b = append(b, printable(r.Message)...)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	b = append(b, '\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, _ = h.out.w.Write(b)
	return nil
}

// WithAttrs returns a handler that adds the attributes to each record.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	b := []byte(h.attrs)
	for _, a := range attrs {
		b = appendAttr(b, h.prefix, a)
	}
	c.attrs = string(b)
	return &c
}

// WithGroup returns a handler that prefixes later attributes with name.
func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.prefix += name + "."
	return &c
}

func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, g := range v.Group() {
			b = appendAttr(b, prefix+a.Key+".", g)
		}
		return b
	}
	s := v.String()
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r == '"' || r == utf8.RuneError || !strconv.IsPrint(r) }) {
		s = strconv.Quote(s)
	}
	b = append(b, ' ')
	b = append(b, prefix+a.Key...)
	b = append(b, '=')
	return append(b, s...)
}

func levelName(l slog.Level, color bool) string {
	name, code := "ERROR", "31"
	switch {
	case l < slog.LevelDebug:
		name, code = "TRACE", "35"
	case l < slog.LevelInfo:
		name, code = "DEBUG", "36"
	case l < slog.LevelWarn:
		name, code = "INFO", "32"
	case l < slog.LevelError:
		name, code = "WARN", "33"
	}
	if color {
		return "\x1b[" + code + "m" + name + "\x1b[0m"
	}
	return name
}

// shortFile keeps the directory and the name of a source file.
func shortFile(path string) string {
	dir, name := filepath.Split(path)
	return filepath.Join(filepath.Base(dir), name)
}

// LogFile opens the file of --log-file for appending: ".log" is added to a name
// without an extension, and a missing directory is made.
func LogFile(path string) (*os.File, error) {
	if filepath.Ext(path) == "" {
		path += ".log"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}
