package logsink

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// MaxLine is the longest line written, in bytes with its line feed.
const MaxLine = 16 << 10

// maxRecord bounds one record, all its lines together; maxQueued what waits to
// be written.
const (
	maxRecord = 64 << 10
	maxQueued = 4 << 20
)

// A Sink writes records to w in a goroutine of its own.
type Sink struct {
	mu      sync.Mutex
	queue   [][]byte
	queued  int // bytes
	dropped int // records since the last line that says so
	closed  bool

	wake chan struct{}
	done chan struct{}
}

// Start returns a Sink that writes to w until Close. Errors of w are ignored: the
// record is lost, the daemon goes on.
func Start(w io.Writer) *Sink {
	s := &Sink{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run(w)
	return s
}

// Write queues a copy of one record, with its lines cut to MaxLine, or drops it if
// too much waits already. It never blocks and never fails.
func (s *Sink) Write(p []byte) (int, error) {
	rec := cut(p)
	s.mu.Lock()
	switch {
	case s.closed:
	case s.queued+len(rec) > maxQueued:
		s.dropped++
	default:
		s.queue = append(s.queue, rec)
		s.queued += len(rec)
	}
	s.mu.Unlock()
	s.signal()
	return len(p), nil
}

// Close writes what is queued and ends the Sink, but waits no longer than limit:
// a stuck writer keeps its goroutine, which ends with the process.
func (s *Sink) Close(limit time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

func (s *Sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Sink) run(w io.Writer) {
	defer close(s.done)
	for range s.wake {
		batch, closed := s.take()
		for _, rec := range batch {
			_, _ = w.Write(rec)
		}
		if closed {
			return
		}
	}
}

// take empties the queue. What it returns no longer counts as queued, so twice
// maxQueued may be held.
func (s *Sink) take() (batch [][]byte, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch = s.queue
	if s.dropped > 0 {
		batch = append(batch, fmt.Appendf(nil, "[%s] WARN %d log records were dropped: nobody takes them fast enough\n",
			time.Now().Format("2006-01-02 15:04:05.000000 -07:00"), s.dropped))
	}
	s.queue, s.queued, s.dropped = nil, 0, 0
	return batch, s.closed
}

// cut copies a record and shortens it and its lines.
func cut(p []byte) []byte {
	lost := max(0, len(p)-maxRecord)
	p = p[:len(p)-lost]
	out := make([]byte, 0, len(p)+64)
	for line := range bytes.Lines(p) {
		if len(line) <= MaxLine {
			out = append(out, line...)
			continue
		}
		out = appendCut(out, line[:MaxLine-64], len(line)-(MaxLine-64))
	}
	if lost > 0 {
		out = appendCut(out, nil, lost)
	}
	return out
}

func appendCut(out, head []byte, lost int) []byte {
	out = append(out, head...)
	return fmt.Appendf(out, " [%d more bytes]\n", lost)
}
