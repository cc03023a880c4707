package blobcache

import (
	"log/slog"
	"sync"
)

// warnings logs what an operator should know, once per blob and kind.
type warnings struct {
	log *slog.Logger // nil: nothing is logged

	mu  sync.Mutex
	had map[warning]bool
}

type warning struct{ blob, what string }

// maxWarnings bounds the memory of what was logged; past it nothing is.
const maxWarnings = 4096

// once logs a condition of a blob, or of the directory, the first time it is met.
func (w *warnings) once(blob, dir, what string, err error) {
	if w.log == nil {
		return
	}
	k := warning{blob, what}
	w.mu.Lock()
	again := w.had[k] || len(w.had) >= maxWarnings
	if w.had == nil {
		w.had = map[warning]bool{}
	}
	w.had[k] = true
	w.mu.Unlock()
	if !again {
		w.log.Warn("cache: "+what, "blob", blob, "dir", dir, "err", err)
	}
}
