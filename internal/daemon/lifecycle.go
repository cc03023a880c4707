package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"vrafs/api"
)

// A state is where a daemon is in its life (nydusd, section 1.9).
type state uint8

const (
	stateInit state = iota
	stateReady
	stateRunning
	stateStopped
)

// String is the name in log lines.
func (s state) String() string { return [...]string{"Init", "Ready", "Running", "Stopped"}[s] }

// name is the name in the API.
func (s state) name() string { return [...]string{"INIT", "READY", "RUNNING", "STOPPED"}[s] }

// An event asks for a change of state.
type event uint8

const (
	evMount event = iota
	evTakeover
	evStart
	evStop
	evExit
)

func (e event) String() string { return [...]string{"Mount", "Takeover", "Start", "Stop", "Exit"}[e] }

// next is the state machine; what is not in it is refused.
var next = map[state]map[event]state{
	stateInit:    {evMount: stateReady, evTakeover: stateReady, evStop: stateStopped},
	stateReady:   {evStart: stateRunning, evStop: stateStopped, evExit: stateStopped},
	stateRunning: {evStop: stateReady},
}

// A machine is the state with its lock. Actions run under the lock, so one
// change is complete before the next begins.
type machine struct {
	log *slog.Logger

	mu    sync.Mutex    // held during a change
	state atomic.Uint32 // a state; changed under mu
}

// fire changes the state if action succeeds; nil is no action. A refused event is
// an *api.Error of kind UnexpectedEvent.
func (m *machine) fire(e event, action func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.now()
	to, ok := next[from][e]
	if !ok {
		return api.Errorf(api.UnexpectedEvent, "%v", e)
	}
	if action != nil {
		if err := action(); err != nil {
			return err
		}
	}
	m.log.Info(fmt.Sprintf("State machine(pid=%d): from %v to %v, input [%v], output [None]", os.Getpid(), from, to, e))
	m.state.Store(uint32(to))
	return nil
}

// now is the state. It doesn't wait for a change that is under way.
func (m *machine) now() state { return state(m.state.Load()) }
