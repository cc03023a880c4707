package hedge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{"patient": {}, "hasty": {Min: 1, Max: 1, First: 1, Gap: 1, Share: 1}} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
				return New(o).Wrap(backendtest.Memory(blobs))
			})
		})
	}
}

// An act is what becomes of one request: after a time bytes come, and so on, and then
// it ends with err. Without err it stalls where the bytes end.
type act struct {
	parts []part
	err   error
}

type part struct {
	after time.Duration
	n     int
}

// A play is a blob whose requests are acts, in the order in which they come.
type play struct {
	backend.Blob // none
	data         []byte

	mu     sync.Mutex
	acts   []act
	asked  []string
	active int
}

func (p *play) Open(context.Context, string) (backend.Blob, error) { return p, nil }

func (p *play) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	p.mu.Lock()
	a := p.acts[0]
	p.acts = p.acts[1:]
	a.parts = slices.Clone(a.parts)
	p.asked = append(p.asked, fmt.Sprintf("%d+%d%s", off, n, map[bool]string{true: " elsewhere"}[backend.WantsElsewhere(ctx)]))
	p.active++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.active--
		p.mu.Unlock()
	}()
	src := &source{ctx: ctx, data: p.data[off:][:n], act: a}
	if from, ok := w.(io.ReaderFrom); ok {
		got, err := from.ReadFrom(io.LimitReader(src, int64(n)))
		return uint64(got), err
	}
	got, err := io.CopyN(w, src, int64(n))
	return uint64(got), err
}

// A source is the body of an act.
type source struct {
	ctx  context.Context
	data []byte
	act  act
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	if len(s.act.parts) == 0 {
		if s.act.err != nil {
			return 0, s.act.err
		}
		<-s.ctx.Done()
		return 0, context.Cause(s.ctx)
	}
	next := &s.act.parts[0]
	select {
	case <-time.After(next.after):
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
	n := copy(p, s.data[:min(next.n, len(s.data))])
	s.data = s.data[n:]
	if next.after, next.n = 0, next.n-n; next.n == 0 {
		s.act.parts = s.act.parts[1:]
	}
	return n, nil
}

var errBroken = &backend.Error{Host: "h", Cause: errors.New("broken")}

func at(after time.Duration, n int) []part { return []part{{after, n}} }

// TestWhoeverHasTheNextByteGoesOn, by reads of 100 bytes that are late after 1 s at
// first, and later after 2 s.
func TestWhoeverHasTheNextByteGoesOn(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name  string
		acts  []act
		asked string
		took  time.Duration
		n     uint64
		err   error
		won   uint64
	}{
		{"in time", []act{{parts: at(999*ms, 100)}}, "0+100", 999 * ms, 100, nil, 0},
		{"late, the second is faster", []act{{parts: at(time.Hour, 100)}, {parts: at(100*ms, 100)}}, "0+100 0+100 elsewhere", 1100 * ms, 100, nil, 1},
		{"late, but faster than the second", []act{{parts: at(1100*ms, 100)}, {parts: at(200*ms, 100)}}, "0+100 0+100 elsewhere", 1100 * ms, 100, nil, 0},
		{"stopped in the middle", []act{{parts: at(0, 30)}, {parts: at(100*ms, 70)}}, "0+100 30+70 elsewhere", 2100 * ms, 100, nil, 1},
		{"went on after a stop", []act{{parts: []part{{0, 30}, {2100 * ms, 70}}}, {parts: at(time.Hour, 70)}}, "0+100 30+70 elsewhere", 2100 * ms, 100, nil, 0},
		{"a failure in time is the read's", []act{{err: errBroken}}, "0+100", 0, 0, errBroken, 0},
		{"a failure of the late one leaves the second", []act{{parts: at(1100*ms, 0), err: errBroken}, {parts: at(200*ms, 100)}}, "0+100 0+100 elsewhere", 1200 * ms, 100, nil, 1},
		{"a failure of the second leaves the late one", []act{{parts: at(1200*ms, 100)}, {err: errBroken}}, "0+100 0+100 elsewhere", 1200 * ms, 100, nil, 0},
		{"both fail", []act{{parts: at(1100*ms, 0), err: errBroken}, {err: io.ErrNoProgress}}, "0+100 0+100 elsewhere", 1100 * ms, 0, errBroken, 0},
		{"both fail, the first at once", []act{{parts: at(1100*ms, 0), err: errBroken}, {parts: at(200*ms, 0), err: io.ErrNoProgress}}, "0+100 0+100 elsewhere", 1200 * ms, 0, errBroken, 0},
		{"the second fails in the middle", []act{{parts: at(time.Hour, 100)}, {parts: at(100*ms, 40), err: io.ErrNoProgress}}, "0+100 0+100 elsewhere", 1100 * ms, 40, io.ErrNoProgress, 1},
		{"an end counts, whoever finds it", []act{{parts: at(time.Hour, 100)}, {err: io.ErrUnexpectedEOF}}, "0+100 0+100 elsewhere", 1000 * ms, 0, io.ErrUnexpectedEOF, 0},
	} {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/direct %v", tt.name, direct), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := New(Options{Gap: 2 * time.Second})
					p := &play{data: pattern(100), acts: tt.acts}
					b, _ := h.Wrap(p).Open(t.Context(), "")
					begin := time.Now()
					got := make([]byte, 100)
					var n uint64
					var err error
					if direct { // the destination reads itself
						var k int
						k, err = b.ReadAt(t.Context(), got, 0)
						n = uint64(k)
					} else {
						var buf bytes.Buffer
						n, err = b.(backend.Streamer).ReadTo(t.Context(), struct{ io.Writer }{&buf}, 0, 100)
						copy(got, buf.Bytes())
					}
					if n != tt.n || !errors.Is(err, tt.err) || time.Since(begin) != tt.took || !bytes.Equal(got[:n], p.data[:n]) {
						t.Errorf("got %d, %v after %v, want %d, %v after %v", n, err, time.Since(begin), tt.n, tt.err, tt.took)
					}
					if asked := strings.Join(p.asked, " "); asked != tt.asked || p.active != 0 || h.Stats().Won != tt.won {
						t.Errorf("asked for %q, won %d, %d still run", asked, h.Stats().Won, p.active)
					}
				})
			})
		}
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)
	}
	return p
}

// TestPrefetchesAreNotHedged until somebody waits for them, nor is the last way.
func TestPrefetchesAreNotHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{})
		wanted := make(chan struct{})
		for _, tt := range []struct {
			ctx  context.Context
			want time.Duration
		}{
			{backend.ForPrefetch(t.Context()), time.Hour},
			{backend.FromOrigin(t.Context()), time.Hour},
			{backend.ForPrefetchUntil(t.Context(), wanted), 10 * time.Second},
		} {
			p := &play{data: pattern(100), acts: []act{{parts: at(time.Hour, 100)}, {parts: at(0, 100)}}}
			b, _ := h.Wrap(p).Open(t.Context(), "")
			begin := time.Now()
			time.AfterFunc(10*time.Second, sync.OnceFunc(func() {
				if backend.Wanted(tt.ctx) != nil {
					close(wanted)
				}
			}))
			if _, err := b.ReadAt(tt.ctx, make([]byte, 100), 0); err != nil || time.Since(begin) != tt.want {
				t.Errorf("got %v after %v, want %v", err, time.Since(begin), tt.want)
			}
		}
	})
}

// TestSecondRequestsAreFew: with everything late, one for twenty reads.
func TestSecondRequestsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Max: time.Millisecond})
		p := &play{data: pattern(100)}
		b, _ := h.Wrap(p).Open(t.Context(), "")
		for range 1000 {
			p.acts = []act{{parts: at(time.Minute, 100)}, {parts: at(time.Minute, 100)}}
			if _, err := b.ReadAt(t.Context(), make([]byte, 100), 0); err != nil {
				t.Fatal(err)
			}
		}
		if s := h.Stats(); s.Sent < 45 || s.Sent > 51 {
			t.Errorf("%d second requests for 1000 reads", s.Sent)
		}
	})
}

func TestSecondRequestsNeedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given := 0
		room := false
		h := New(Options{Room: func(n uint64) (func(), bool) {
			if n != 100 {
				t.Errorf("room for %d bytes", n)
			}
			return func() { given++ }, room
		}})
		for _, room = range []bool{false, true} {
			p := &play{data: pattern(100), acts: []act{{parts: at(time.Hour, 100)}, {parts: at(0, 100)}}}
			b, _ := h.Wrap(p).Open(t.Context(), "")
			if _, err := b.ReadAt(t.Context(), make([]byte, 100), 0); err != nil {
				t.Fatal(err)
			}
		}
		if s := h.Stats(); s.Sent != 1 || given != 1 {
			t.Errorf("%d second requests, room given back %d times", s.Sent, given)
		}
	})
}

// TestLateIsWhatFewAre: the time of 19 in 20, and thrice that of half, within bounds.
func TestLateIsWhatFewAre(t *testing.T) {
	o := &New(Options{}).opt
	var s times
	for range known - 1 {
		s.add(300 * time.Millisecond)
	}
	if got := s.late(o); got != o.First {
		t.Errorf("too little is known: %v", got)
	}
	for i := range 64 {
		s.add(time.Duration(max(20, 10*(i+1-32))) * time.Millisecond)
	}
	if got := s.late(o); got != 290*time.Millisecond {
		t.Errorf("got %v", got)
	}
	for i := range 64 {
		s.add(time.Duration(100+i) * time.Millisecond)
	}
	if got := s.late(o); got != 3*132*time.Millisecond {
		t.Errorf("where all take about as long: %v", got)
	}
	for range 64 {
		s.add(time.Microsecond)
	}
	if got := s.late(o); got != o.Min {
		t.Errorf("got %v", got)
	}
	for range 64 {
		s.add(time.Hour)
	}
	if got := s.late(o); got != o.Max {
		t.Errorf("got %v", got)
	}
}

// TestRacesBringEveryByteOnce, however the requests overlap: for the race detector.
func TestRacesBringEveryByteOnce(t *testing.T) {
	h := New(Options{Min: time.Nanosecond, Max: time.Nanosecond, First: time.Nanosecond, Gap: time.Nanosecond, Share: 1})
	data := pattern(5000)
	for i := range 60 {
		var acts []act
		for range 2 {
			var a act
			for range 10 {
				a.parts = append(a.parts, part{time.Duration(rand.N(300)) * time.Microsecond, 500})
			}
			acts = append(acts, a)
		}
		b, _ := h.Wrap(&play{data: data, acts: acts}).Open(t.Context(), "")
		got := make([]byte, len(data))
		if n, err := b.ReadAt(t.Context(), got, 0); err != nil || n != len(data) || !bytes.Equal(got, data) {
			t.Fatalf("round %d: %d, %v, or wrong bytes", i, n, err)
		}
	}
	if h.Stats().Won == 0 {
		t.Error("no second request was ever faster")
	}
}

// A crossing is a blob whose first request has its bytes when the second one is about to
// be sent.
type crossing struct {
	backend.Blob // none
	data         []byte
	requests     atomic.Int32
	come, asked  chan struct{}
}

func (c *crossing) Open(context.Context, string) (backend.Blob, error) { return c, nil }

func (c *crossing) ReadTo(_ context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	if c.requests.Add(1) == 1 {
		<-c.come
	} else {
		close(c.asked)
	}
	for err == nil && done < n {
		var k int
		k, err = w.Write(c.data[off+done:][:min(n-done, 50)])
		done += uint64(k)
	}
	return done, err
}

// A waiting writer takes bytes after the second request was sent.
type waiting struct {
	got   []byte
	asked chan struct{}
}

func (w *waiting) Write(p []byte) (int, error) {
	<-w.asked
	w.got = append(w.got, p...)
	return len(p), nil
}

// TestBytesThatCrossTheSecondRequestComeOnce: what the first one brings while the second
// one is being decided on.
func TestBytesThatCrossTheSecondRequestComeOnce(t *testing.T) {
	c := &crossing{data: pattern(100), come: make(chan struct{}), asked: make(chan struct{})}
	h := New(Options{First: 1, Share: 1, Room: func(uint64) (func(), bool) {
		close(c.come)
		for range 1000 {
			runtime.Gosched() // the first request may write now
		}
		return func() {}, true
	}})
	b, _ := h.Wrap(c).Open(t.Context(), "")
	w := &waiting{asked: c.asked}
	if n, err := backend.ReadTo(t.Context(), b, w, 0, 100); n != 100 || err != nil || !bytes.Equal(w.got, c.data) {
		t.Errorf("got %d, %v, %d bytes or other ones", n, err, len(w.got))
	}
}
