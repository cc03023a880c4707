package daemon

import (
	"sync"
	"time"

	"vrafs/api"
)

// Bounds of the ring of errors (nydusd, section 2.4), in entries and bytes.
const (
	maxEvents     = 500
	maxEventBytes = 50 << 10
	maxEventText  = 4 << 10
)

// events is the ring of recent errors that the API shows.
type events struct {
	mu    sync.Mutex
	list  []string
	bytes int
	all   uint64 // ever added
}

// add appends an error text with the time, and drops the oldest for it. The text
// must hold no secret.
func (e *events) add(text string) {
	text = time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") + " - " + text[:min(len(text), maxEventText)]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all++
	e.list = append(e.list, text)
	e.bytes += len(text)
	drop := 0
	for len(e.list)-drop > maxEvents || e.bytes > maxEventBytes {
		e.bytes -= len(e.list[drop])
		drop++
	}
	e.list = append(e.list[:0:0], e.list[drop:]...)
}

func (e *events) snapshot() api.Events {
	e.mu.Lock()
	defer e.mu.Unlock()
	return api.Events{MaxErrors: maxEvents, TotalErrors: len(e.list), MaxSize: maxEventBytes, TotalSize: e.bytes,
		Errors: append([]string{}, e.list...)}
}

func (e *events) total() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all
}
