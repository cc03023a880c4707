package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// A telling log puts its warnings into the ring of events, too: the log file may lie on
// the very disk that they are about.
type telling struct {
	slog.Handler
	events *events
}

func (t telling) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(r.Message)
		r.Attrs(func(a slog.Attr) bool {
			if s := a.Value.String(); s != "" {
				fmt.Fprintf(&b, ", %s %s", a.Key, s)
			}
			return true
		})
		t.events.add(b.String())
	}
	return t.Handler.Handle(ctx, r)
}

func (t telling) WithAttrs(attrs []slog.Attr) slog.Handler {
	return telling{t.Handler.WithAttrs(attrs), t.events}
}

func (t telling) WithGroup(name string) slog.Handler {
	return telling{t.Handler.WithGroup(name), t.events}
}
