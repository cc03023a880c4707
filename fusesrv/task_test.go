package fusesrv_test

import (
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
)

// A slow is a file system whose READ, LOOKUP and READDIR wait.
type slow struct {
	fusesrv.Unsupported
	task   *task
	inside chan struct{} // GETATTR says that it was entered, and waits for out
	out    chan struct{}
}

// A task answers with data after as many rounds as it is told.
type task struct {
	rounds  int
	errno   syscall.Errno
	wait    chan struct{} // nil: not
	waits   int
	aside   bool // it says that it has nothing to wait for
	dropped bool
}

func (t *task) Wait(ctx context.Context) syscall.Errno {
	t.waits++
	if t.wait != nil {
		select {
		case <-t.wait:
		case <-ctx.Done():
			return syscall.EIO
		}
	}
	return t.errno
}

func (t *task) Finish(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	if t.waits < t.rounds {
		return fusesrv.Pending
	}
	switch r.Header.Opcode {
	case fusesrv.OpLookup:
		w.Entry = fusesrv.EntryOut{NodeID: 7, Attr: fusesrv.Attr{Ino: 7}}
	case fusesrv.OpReaddir:
		w.Dir.Add(7, 1, 8, []byte("name"))
	case fusesrv.OpWrite:
		n := 0
		for _, p := range w.Input(100) {
			n += len(p)
		}
		w.Written = uint32(n)
	default:
		return w.Bytes([]byte("data"))
	}
	return 0
}

func (t *task) Drop() { t.dropped = true }

func (s *slow) Read(r *fusesrv.Request, _ *fusesrv.ReadIn, _ *fusesrv.Reply) syscall.Errno {
	return r.Pend(s.task)
}

func (s *slow) Write(r *fusesrv.Request, _ *fusesrv.WriteIn, _ *fusesrv.Reply) syscall.Errno {
	if s.task.aside {
		return r.PendAside(s.task)
	}
	return r.Pend(s.task)
}

func (s *slow) Lookup(r *fusesrv.Request, _ []byte, _ *fusesrv.EntryOut) syscall.Errno {
	return r.Pend(s.task)
}

func (s *slow) Readdir(r *fusesrv.Request, _ *fusesrv.ReadIn, _ *fusesrv.Reply) syscall.Errno {
	return r.Pend(s.task)
}

func (s *slow) Getattr(*fusesrv.Request, *fusesrv.GetattrIn, *fusesrv.AttrOut) syscall.Errno {
	s.inside <- struct{}{}
	<-s.out
	return 0
}

func newSlow(t *testing.T, o fusesrv.Options) (*slow, *fusesrv.Server, *fusesrvtest.Direct) {
	t.Helper()
	fs := &slow{task: &task{}, inside: make(chan struct{}), out: make(chan struct{})}
	s := fusesrv.NewServer(fs, o)
	d := fusesrvtest.NewDirect(t, s)
	if _, err := fusesrvtest.Init(d, 45, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	return fs, s, d
}

// TestWhatIsAsideDoesNotWait has requests that wait and others in turn, in one Request.
func TestWhatIsAsideDoesNotWait(t *testing.T) {
	fs, _, d := newSlow(t, fusesrv.Options{})
	for _, aside := range []bool{true, false, true} {
		fs.task = &task{aside: aside, wait: make(chan struct{})}
		want := 0
		if !aside {
			want = 1
			close(fs.task.wait)
		}
		if n, err := fusesrvtest.Write(d, 1, fusesrv.WriteIn{}, []byte("text")); err != nil || n != 4 || fs.task.waits != want {
			t.Errorf("aside %t: wrote %d bytes, %v, waited %d times", aside, n, err, fs.task.waits)
		}
	}
}

func TestTasksAnswerForEveryKindOfReply(t *testing.T) {
	fs, s, d := newSlow(t, fusesrv.Options{})
	for rounds := range 3 {
		fs.task = &task{rounds: rounds}
		if b, err := fusesrvtest.Read(d, 1, 0, 0, 100); err != nil || string(b) != "data" {
			t.Errorf("READ: got %q, %v", b, err)
		}
		fs.task = &task{rounds: rounds}
		if e, err := fusesrvtest.Lookup(d, 1, "x"); err != nil || e.NodeID != 7 {
			t.Errorf("LOOKUP: got %+v, %v", e, err)
		}
		fs.task = &task{rounds: rounds}
		if l, err := fusesrvtest.Readdir(d, false, 1, 0, 0, 100); err != nil || len(l) != 1 || l[0].Name != "name" {
			t.Errorf("READDIR: got %+v, %v", l, err)
		}
		fs.task = &task{rounds: rounds}
		d.InCuts = []int{90, 100}
		b, err := d.Call(fusesrv.OpWrite, 1, fusesrvtest.Args(t, fusesrv.WriteIn{Size: 60}, make([]byte, 60)), 8)
		if d.InCuts = nil; err != nil || b[0] != 60 {
			t.Errorf("WRITE: got %v, %v, want 60 bytes", b, err)
		}
	}
	fs.task = &task{errno: syscall.ENOSPC}
	if _, err := fusesrvtest.Read(d, 1, 0, 0, 100); err != syscall.ENOSPC || !fs.task.dropped {
		t.Errorf("failed wait: got %v, dropped %v", err, fs.task.dropped)
	}
	if in := s.Inflight(nil); len(in) != 0 {
		t.Errorf("left in flight: %+v", in)
	}
	st := s.Stats().Totals()
	if st.Hits[fusesrv.OpRead] != 4 || st.Errors[fusesrv.OpRead] != 1 || st.BytesRead != 12 || st.ReadSizes[0] != 3 ||
		st.BytesWritten != 180 || st.ReadLatencies[0] != 4 {
		t.Errorf("got %+v", st)
	}
}

func TestDeadlineEndsAWait(t *testing.T) {
	fs, _, d := newSlow(t, fusesrv.Options{Deadline: time.Millisecond})
	fs.task.wait = make(chan struct{})
	if _, err := fusesrvtest.Read(d, 1, 0, 0, 100); err != syscall.EIO {
		t.Errorf("got %v, want EIO", err)
	}
}

func TestAbortBeforeTheWaitEndsIt(t *testing.T) {
	fs, s, d := newSlow(t, fusesrv.Options{})
	fs.task.wait = make(chan struct{})
	request := fusesrvtest.Args(t, fusesrv.InHeader{Len: 80, Opcode: fusesrv.OpRead, Unique: 9, NodeID: 5}, fusesrv.ReadIn{Size: 4})
	var r fusesrv.Request
	out := [][]byte{make([]byte, 100)}
	if _, pending := s.Handle(d.W, &r, [][]byte{request}, out); !pending {
		t.Fatal("not pending")
	}
	in := s.Inflight(nil)
	if len(in) != 1 || in[0].NodeID != 5 || in[0].Unique != 9 || in[0].Opcode != fusesrv.OpRead {
		t.Errorf("got %+v in flight", in)
	}
	yes := func(fusesrv.Inflight) bool { return true }
	if n := s.Abort(yes); n != 1 {
		t.Errorf("aborted %d, want 1", n)
	}
	if n := s.Abort(yes); n != 0 {
		t.Errorf("aborted %d again, want 0", n)
	}
	s.Wait(t.Context(), &r)
	if n, pending := s.Finish(d.W, &r, [][]byte{request}, out); n != 16 || pending || !fs.task.dropped {
		t.Errorf("got %d bytes, pending %v, dropped %v, want an error", n, pending, fs.task.dropped)
	}
}

func TestDropTakesARequestOffTheBooks(t *testing.T) {
	fs, s, d := newSlow(t, fusesrv.Options{})
	request := fusesrvtest.Args(t, fusesrv.InHeader{Len: 80, Opcode: fusesrv.OpRead, Unique: 9}, fusesrv.ReadIn{Size: 4})
	var r fusesrv.Request
	if _, pending := s.Handle(d.W, &r, [][]byte{request}, [][]byte{make([]byte, 100)}); !pending {
		t.Fatal("not pending")
	}
	s.Drop(&r)
	if !fs.task.dropped || len(s.Inflight(nil)) != 0 || s.Stats().Totals().Dropped != 1 {
		t.Errorf("dropped %v, in flight %v", fs.task.dropped, s.Inflight(nil))
	}
}

func TestQuiesceWaitsForRunningRequestsOnly(t *testing.T) {
	fs, s, d := newSlow(t, fusesrv.Options{})
	if err := s.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := fusesrvtest.Getattr(d, 1)
		done <- err
	}()
	<-fs.inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Quiesce(ctx); err == nil {
		t.Error("did not wait for a request that runs")
	}
	quiet := make(chan error)
	go func() { quiet <- s.Quiesce(context.Background()) }()
	select {
	case <-quiet:
		t.Error("returned while a request runs")
	default:
		runtime.Gosched()
	}
	fs.out <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-quiet; err != nil {
		t.Error(err)
	}
}

func TestTrackListsAndTimesEveryRequest(t *testing.T) {
	fs, s, d := newSlow(t, fusesrv.Options{Track: true})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = fusesrvtest.Getattr(d, 3)
	}()
	<-fs.inside
	if in := s.Inflight(nil); len(in) != 1 || in[0].Opcode != fusesrv.OpGetattr || in[0].NodeID != 3 {
		t.Errorf("got %+v in flight, want the GETATTR", in)
	}
	fs.out <- struct{}{}
	<-done
	if in := s.Inflight(nil); len(in) != 0 {
		t.Errorf("got %+v in flight, want nothing", in)
	}
	if st := s.Stats().Totals(); st.Latency[fusesrv.OpGetattr] == 0 {
		t.Error("was not timed")
	}
}
