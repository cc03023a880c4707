package logsink

import (
	"log/slog"
	"sync"
	"time"
)

// maxKinds bounds what a Limiter remembers; the kinds of a program are few.
const maxKinds = 256

// A Limiter logs each kind of message at most once a minute: a peer can cause
// them as often as it likes. The zero value is ready; any goroutine may use it.
type Limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// Warn logs kind as a warning unless it was logged less than a minute ago.
func (l *Limiter) Warn(log *slog.Logger, kind string, args ...any) {
	if l.due(kind) {
		log.Warn(kind, args...)
	}
}

// Info is Warn for what is no trouble.
func (l *Limiter) Info(log *slog.Logger, kind string, args ...any) {
	if l.due(kind) {
		log.Info(kind, args...)
	}
}

func (l *Limiter) due(kind string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	t, seen := l.last[kind]
	if seen && now.Sub(t) < time.Minute {
		return false
	}
	if seen || len(l.last) < maxKinds {
		if l.last == nil {
			l.last = map[string]time.Time{}
		}
		l.last[kind] = now
	}
	return true
}
