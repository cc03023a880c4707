package logsink

import (
	"log/slog"
	"sync"
	"time"
)

// maxKinds bounds what a Limiter remembers; the kinds of a program are few.
const maxKinds = 256

// A Limiter logs each kind of warning at most once a minute: a peer can cause
// them as often as it likes. The zero value is ready; any goroutine may use it.
type Limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// Warn logs kind with args unless it did so less than a minute ago.
func (l *Limiter) Warn(log *slog.Logger, kind string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	t, seen := l.last[kind]
	due := !seen || now.Sub(t) >= time.Minute
	if due && (seen || len(l.last) < maxKinds) {
		if l.last == nil {
			l.last = map[string]time.Time{}
		}
		l.last[kind] = now
	}
	l.mu.Unlock()
	if due {
		log.Warn(kind, args...)
	}
}
