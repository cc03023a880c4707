package vhostuser_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"vrafs/vhostuser"
	"vrafs/virtqueue"
)

// Requests of the echo device: {u64 token, u64 op}. The reply is the token,
// repeated over the whole writable part.
const (
	opEcho   = iota // answer at once
	opPark          // answer from a worker once the gate is open
	opSilent        // answer at once with nothing written
	opPanic         // a bug in the device
	opStuck         // as opPark, but deaf to Abort
)

// An echo is a device that is its own file system, so to speak.
type echo struct {
	prop vhostuser.Properties
	// refuseState makes LoadState fail.
	refuseState bool

	mu     sync.Mutex
	cond   *sync.Cond
	queues map[*echoQueue]bool
	parked int           // requests that wait for the gate, over all queues
	gate   chan struct{} // closed: parked requests go on
	resets int
	seen   map[uint64]int // token -> times handled
	state  []byte         // loaded
	saved  []byte         // to save
	gone   int            // parked requests whose memory was gone

	workers sync.WaitGroup
}

// newEchoFor is newEcho with workers that are waited for at the test's end.
func newEchoFor(t testing.TB, queues int) *echo {
	e := newEcho(queues)
	t.Cleanup(func() {
		e.open()
		e.workers.Wait()
	})
	return e
}

func newEcho(queues int) *echo {
	e := &echo{prop: vhostuser.Properties{Queues: queues, Migratable: true, Config: []byte("echo")},
		queues: map[*echoQueue]bool{}, gate: make(chan struct{}), seen: map[uint64]int{}}
	e.cond = sync.NewCond(&e.mu)
	return e
}

func (e *echo) Properties() vhostuser.Properties { return e.prop }

func (e *echo) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resets++
}

// setState says what SaveState writes and whether LoadState refuses.
func (e *echo) setState(saved []byte, refuse bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.saved, e.refuseState = saved, refuse
}

// loaded returns what LoadState was given last.
func (e *echo) loaded() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

func (e *echo) SaveState(w io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := w.Write(e.saved)
	return err
}

func (e *echo) LoadState(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refuseState {
		return errors.New("state of another device")
	}
	e.state = b
	return nil
}

// open lets parked requests go on, now and from now on.
func (e *echo) open() {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.gate:
	default:
		close(e.gate)
	}
}

// shut makes parked requests wait again. Those that open had let go are finished
// when it returns, so that waitParked counts later ones only.
func (e *echo) shut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.gate:
		for e.parked > 0 {
			e.cond.Wait()
		}
	default:
	}
	e.gate = make(chan struct{})
}

// waitParked returns when n requests are parked.
func (e *echo) waitParked(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.parked < n {
		e.cond.Wait()
	}
}

func (e *echo) handled() map[uint64]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := make(map[uint64]int, len(e.seen))
	for k, v := range e.seen {
		m[k] = v
	}
	return m
}

func (e *echo) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler {
	q := &echoQueue{e: e, v: v, abort: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queues[q] = true
	return q
}

// An echoQueue serves one ring. It parks every request in a goroutine of its own.
type echoQueue struct {
	e       *echo
	v       *vhostuser.Vring
	abort   chan struct{}
	once    sync.Once
	head    [16]byte
	onToken func(uint64)
}

func (q *echoQueue) Handle(c *virtqueue.Chain) {
	n := 0
	for _, b := range c.In {
		n += copy(q.head[n:], b)
	}
	if n < len(q.head) {
		q.v.Push(c.Head, nil, 0)
		return
	}
	token, op := binary.LittleEndian.Uint64(q.head[:]), binary.LittleEndian.Uint64(q.head[8:])
	q.e.mu.Lock()
	q.e.seen[token]++
	q.e.mu.Unlock()
	if q.onToken != nil {
		q.onToken(token)
	}
	switch op {
	case opEcho:
		q.v.Push(c.Head, c.Writable, fill(c.Out, token))
	case opPark, opStuck:
		q.park(c.Head, slices.Clone(c.Writable), token, op == opStuck)
	case opPanic:
		panic("echo device: told to")
	default:
		q.v.Push(c.Head, nil, 0)
	}
}

// fill writes the token over all views and returns how many bytes that were.
func fill(views [][]byte, token uint64) (n uint32) {
	pattern := binary.LittleEndian.AppendUint64(nil, token)
	pattern = bytes.Repeat(pattern, 64)
	at := 0
	for _, v := range views {
		for len(v) > 0 {
			k := copy(v, pattern[at%8:])
			v = v[k:]
			at += k
		}
	}
	return uint32(at)
}

func (q *echoQueue) park(head uint16, writable []virtqueue.Seg, token uint64, stuck bool) {
	e := q.e
	abort := q.abort
	if stuck {
		abort = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	gate := e.gate
	e.parked++
	e.cond.Broadcast()
	e.workers.Go(func() {
		debug.SetPanicOnFault(true)
		defer func() {
			if r := recover(); r != nil {
				q.v.Fault(r)
			}
		}()
		select {
		case <-gate:
			q.answer(head, writable, token)
		case <-abort:
			q.v.Complete(head, nil, 0)
		}
		e.mu.Lock()
		e.parked--
		e.cond.Broadcast()
		e.mu.Unlock()
	})
}

// answer translates again: no host address survives the wait.
func (q *echoQueue) answer(head uint16, writable []virtqueue.Seg, token uint64) {
	pin := q.v.Space().NewPin()
	defer pin.Close()
	mem, err := q.v.Enter(pin)
	if err != nil {
		return // the ring has stopped, its requests are given up
	}
	views, err := mem.Translate(nil, writable)
	n := uint32(0)
	if err == nil {
		n = fill(views, token)
	} else {
		q.e.mu.Lock()
		q.e.gone++
		q.e.mu.Unlock()
	}
	pin.Leave()
	q.v.Complete(head, writable, n)
}

// Unrepeatable is none: an echo can be heard twice.
func (q *echoQueue) Unrepeatable() int { return 0 }

func (q *echoQueue) Abort() { q.once.Do(func() { close(q.abort) }) }

// Close does not wait for the workers, as a device with a stalled fetch would
// not: what they push then must do nothing.
func (q *echoQueue) Close() {
	q.Abort()
	q.e.mu.Lock()
	defer q.e.mu.Unlock()
	delete(q.e.queues, q)
}
