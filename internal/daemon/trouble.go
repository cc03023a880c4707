package daemon

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"vrafs/backend"
)

// A trouble is what happens again and again: what, at which host, to which mount.
type trouble struct{ what, host, place string }

// troubleOf says what an error of a back end is about.
func troubleOf(place string, err error) trouble {
	t := trouble{what: causeOf(err).String(), place: place}
	if e, ok := errors.AsType[*backend.Error](err); ok {
		t.host = e.Host
		t.what += fmt.Sprintf(" %d %s", e.Status, e.Remedy)
	}
	return t
}

const (
	// maxTroubles bounds what is remembered: a server can redirect to any host.
	maxTroubles = 512
	// troubleAgain is when a trouble that goes on is told of again.
	troubleAgain = time.Minute
)

// troubles tell of each trouble once a minute, however often it is met. The zero value
// is ready.
type troubles struct {
	mu sync.Mutex
	m  map[trouble]*told
}

// told is a trouble that was told of.
type told struct {
	at   time.Time
	more int // times since then
}

// meet reports whether t is to be told of now, with a remark on what wasn't told. Past
// the bound nothing is.
func (s *troubles) meet(t trouble, now time.Time) (remark string, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.m[t]
	if known == nil {
		if s.forget(now); len(s.m) >= maxTroubles {
			return "", false
		}
		s.m[t] = &told{at: now}
		return "", true
	}
	if now.Sub(known.at) < troubleAgain {
		known.more++
		return "", false
	}
	if known.more > 0 {
		remark = fmt.Sprintf(" (and %d times more since %s)", known.more, known.at.UTC().Format(time.TimeOnly))
	}
	known.at, known.more = now, 0
	return remark, true
}

// forget drops what is over. Preconditions: mu is held.
func (s *troubles) forget(now time.Time) {
	if s.m == nil {
		s.m = map[trouble]*told{}
	}
	if len(s.m) < maxTroubles {
		return
	}
	for t, known := range s.m {
		if now.Sub(known.at) >= troubleAgain {
			delete(s.m, t)
		}
	}
}

// over forgets the troubles of a mount, with "" those of all of them: somebody has
// done something about it, and wants to hear how it goes on.
func (s *troubles) over(place string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.m, func(t trouble, _ *told) bool { return place == "" || t.place == place })
}
