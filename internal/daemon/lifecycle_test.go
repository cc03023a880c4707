package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"vrafs/api"
)

func TestStateMachine(t *testing.T) {
	allowed := map[string]state{
		"Init Mount": stateReady, "Init Takeover": stateReady, "Init Stop": stateStopped,
		"Ready Start": stateRunning, "Ready Stop": stateStopped, "Ready Exit": stateStopped,
		"Running Stop": stateReady,
	}
	for from := stateInit; from <= stateStopped; from++ {
		for e := evMount; e <= evExit; e++ {
			m := machine{log: slog.New(slog.DiscardHandler)}
			m.state.Store(uint32(from))
			err := m.fire(e, nil)
			to, ok := allowed[fmt.Sprint(from, " ", e)]
			if !ok {
				to = from
				if ae, is := errors.AsType[*api.Error](err); !is || ae.Kind != api.UnexpectedEvent || ae.Text != e.String() {
					t.Errorf("%v %v: got %v", from, e, err)
				}
			} else if err != nil {
				t.Errorf("%v %v: got %v", from, e, err)
			}
			if m.now() != to {
				t.Errorf("%v %v: went to %v, want %v", from, e, m.now(), to)
			}
		}
	}
}

func TestFailedActionChangesNothing(t *testing.T) {
	m := machine{log: slog.New(slog.DiscardHandler)}
	want := errors.New("no")
	if err := m.fire(evMount, func() error { return want }); err != want || m.now() != stateInit {
		t.Errorf("got %v in %v", err, m.now())
	}
}

func TestEventsAreBounded(t *testing.T) {
	var e events
	for i := range 2 * maxEvents {
		e.add(fmt.Sprint("error ", i))
	}
	s := e.snapshot()
	if s.TotalErrors != maxEvents || len(s.Errors) != maxEvents || !strings.HasSuffix(s.Errors[maxEvents-1], fmt.Sprint("error ", 2*maxEvents-1)) {
		t.Errorf("got %d, last %q", s.TotalErrors, s.Errors[len(s.Errors)-1])
	}
	for range 100 {
		e.add(strings.Repeat("x", 1<<20))
	}
	if s = e.snapshot(); s.TotalSize > maxEventBytes || s.TotalErrors == 0 {
		t.Errorf("got %d bytes in %d", s.TotalSize, s.TotalErrors)
	}
	if e.total() != 2*maxEvents+100 {
		t.Errorf("got %d", e.total())
	}
}
