package daemon

import (
	"sync"
	"sync/atomic"
)

// saves are the saves of a state that changes. They exclude each other, and calls
// that waited for another are content with one save for all of them.
type saves struct {
	calls atomic.Uint64

	mu    sync.Mutex
	saved uint64 // calls whose changes are saved
	ended bool   // nothing is saved any more
}

// do calls save, which takes the state as it is then.
func (s *saves) do(save func() error) error {
	call := s.calls.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.saved >= call {
		return nil
	}
	latest := s.calls.Load()
	if err := save(); err != nil {
		return err
	}
	s.saved = latest
	return nil
}

// stop returns when no save runs, and lets none begin.
func (s *saves) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}
