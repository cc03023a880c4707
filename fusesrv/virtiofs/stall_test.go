package virtiofs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/internal/testenv"
	"vrafs/rafs"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

// A stalled is a rig whose back end answers nothing until it is told to.
type stalled struct {
	*rig
	c       *vhostusertest.Client
	release chan struct{}
	asked   chan struct{} // a token for each read that the back end holds
	file    fusesrvtest.DirEntry
	content []byte
}

func newStalled(t *testing.T, o virtiofs.Options, g vhostusertest.GuestConfig) *stalled {
	t.Helper()
	s := &stalled{release: make(chan struct{}), asked: make(chan struct{}, 1024)}
	im := image(t, rafs.V6)
	g.MemSize = 128 << 20
	s.rig = newRig(t, im, fusesrvtest.StackOptions{Backend: func(b backend.Opener) backend.Opener {
		return backendtest.Faulty(b, func(backendtest.Read) backendtest.Fault {
			s.asked <- struct{}{}
			return backendtest.Fault{Wait: s.release}
		})
	}}, o, g)
	s.c = s.start(t)
	dir, err := fusesrvtest.Lookup(s.c, fusesrv.RootID, "sizes")
	if err != nil {
		t.Fatal(err)
	}
	list, err := fusesrvtest.List(s.c, true, dir.NodeID, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Entry.Attr.Mode&rafs.ModeType == rafs.ModeRegular && e.Entry.Attr.Size > s.file.Entry.Attr.Size {
			s.file = e
		}
	}
	if s.content, err = os.ReadFile(filepath.Join(im.Tree, "sizes", s.file.Name)); err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends a READ of n bytes that will miss, and waits until the back end has
// been asked.
func (s *stalled) send(t *testing.T, n int) uint64 {
	t.Helper()
	unique, err := s.c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpRead), Node: s.file.Entry.NodeID,
		Args: fusesrvtest.Args(t, fusesrv.ReadIn{Size: uint32(n)}), Room: n})
	if err == nil {
		err = s.c.Ring.Kick()
	}
	if err != nil {
		t.Fatal(err)
	}
	<-s.asked
	return unique
}

// getattr sends a request that hits, on the queue that has a miss, and takes its
// reply, which must come first.
func (s *stalled) getattr(t *testing.T) {
	t.Helper()
	unique, err := s.c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpGetattr), Node: s.file.Entry.NodeID,
		Args: fusesrvtest.Args(t, fusesrv.GetattrIn{}), Room: 104})
	if err == nil {
		err = s.c.Ring.Kick()
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.c.Recv(); err != nil || r.Unique != unique || r.Errno != 0 {
		t.Fatalf("got reply to %#x errno %v error %v, want one to %#x", r.Unique, r.Errno, err, unique)
	}
}

// plug adds memory and returns when the back-end has it: only then may a driver
// use it.
func (s *stalled) plug(t *testing.T, region *vhostusertest.Region) {
	t.Helper()
	err := s.guest.Plug(s.conn, region)
	if err == nil {
		_, err = s.conn.AskU64(vhostuser.GetFeatures, nil) // messages are handled in order
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHitsPassAMiss(t *testing.T) {
	s := newStalled(t, virtiofs.Options{Workers: 1}, vhostusertest.GuestConfig{QueueSize: 512})
	unique := s.send(t, 4096)
	for range 100 {
		s.getattr(t)
	}
	if in := s.Server.Inflight(nil); len(in) != 1 || in[0].Unique != unique || in[0].Opcode != fusesrv.OpRead || in[0].Start.IsZero() {
		t.Errorf("got %+v in flight, want the READ", in)
	}
	close(s.release)
	r, err := s.c.Recv()
	if err != nil || r.Unique != unique || r.Errno != 0 || !bytes.Equal(r.Body, s.content[:4096]) {
		t.Errorf("got reply to %#x: errno %v, %d bytes, error %v; want the file's first 4096", r.Unique, r.Errno, len(r.Body), err)
	}
	if in := s.Server.Inflight(nil); len(in) != 0 {
		t.Errorf("got %+v in flight, want nothing", in)
	}
}

func TestHiprioNeverWaits(t *testing.T) {
	s := newStalled(t, virtiofs.Options{Workers: 1, Queues: 1}, vhostusertest.GuestConfig{QueueSize: 512})
	s.send(t, 4096)
	hi := s.client(t, 0, vhostusertest.ClientConfig{})
	for range 100 {
		if err := hi.Forget(s.file.Entry.NodeID, 1); err != nil {
			t.Fatal(err)
		}
	}
	close(s.release)
	if _, err := s.c.Recv(); err != nil {
		t.Error(err)
	}
}

// TestMissSurvivesMemoryChanges plugs and unplugs memory while a READ waits and
// another queue is busy.
func TestMissSurvivesMemoryChanges(t *testing.T) {
	s := newStalled(t, virtiofs.Options{}, vhostusertest.GuestConfig{QueueSize: 512, Slots: true, Rings: 3})
	unique := s.send(t, 8192)
	busy, stop := s.client(t, 2, vhostusertest.ClientConfig{}), make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if list, err := fusesrvtest.List(busy, true, fusesrv.RootID, 64<<10); err != nil || len(list) < 3 {
				t.Errorf("got %d entries, %v", len(list), err)
				return
			}
		}
	})
	var regions []*vhostusertest.Region
	for i := range 8 {
		region, err := vhostusertest.NewRegion(virtqueue.GPA(1+i)<<33, virtqueue.UVA(1+i)<<44, 256<<10)
		if err != nil {
			t.Fatal(err)
		}
		defer region.Close()
		regions = append(regions, region)
	}
	for i := range testenv.Rounds(2000) {
		region := regions[i%len(regions)]
		s.plug(t, region)
		s.getattr(t)
		if err := s.guest.Unplug(s.conn, region); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	load.Wait()
	close(s.release)
	r, err := s.c.Recv()
	if err != nil || r.Unique != unique || !bytes.Equal(r.Body, s.content[:8192]) {
		t.Errorf("got reply to %#x: errno %v, %d bytes, error %v; want the file's first 8192", r.Unique, r.Errno, len(r.Body), err)
	}
}

func TestMissIntoMemoryThatWasUnpluggedEndsWithLengthZero(t *testing.T) {
	s := newStalled(t, virtiofs.Options{}, vhostusertest.GuestConfig{QueueSize: 512, Slots: true})
	region, err := vhostusertest.NewRegion(1<<33, 1<<44, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	s.plug(t, region)
	args := fusesrvtest.Args(t, fusesrv.InHeader{Len: 80, Opcode: fusesrv.OpRead, Unique: 77, NodeID: s.file.Entry.NodeID},
		fusesrv.ReadIn{Size: 4096})
	copy(region.Mem, args)
	readable := []virtqueue.Seg{{Addr: region.Spec.GPA, Len: 80}}
	writable := []virtqueue.Seg{{Addr: region.Spec.GPA + 4096, Len: 16 + 4096}}
	if _, ok, err := s.c.Ring.Driver.Add(readable, writable); !ok || err != nil {
		t.Fatalf("add: %v %v", ok, err)
	}
	if err := s.c.Ring.Kick(); err != nil {
		t.Fatal(err)
	}
	<-s.asked
	if err := s.guest.Unplug(s.conn, region); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.AskU64(vhostuser.GetFeatures, nil); err != nil { // it is gone
		t.Fatal(err)
	}
	close(s.release)
	done, err := s.c.Ring.Wait()
	if err != nil || done.Written != 0 {
		t.Errorf("got %d bytes, error %v, want 0", done.Written, err)
	}
	if got := s.Server.Stats().Totals().Dropped; got != 1 {
		t.Errorf("got %d dropped requests counted, want 1", got)
	}
	if !bytes.Equal(region.Mem[4096:8192], make([]byte, 4096)) {
		t.Error("unplugged memory was written to")
	}
}

func TestStoppedRingGetsErrorsForItsMisses(t *testing.T) {
	s := newStalled(t, virtiofs.Options{Workers: 1, Queues: 1}, vhostusertest.GuestConfig{QueueSize: 512})
	first := s.send(t, 4096)
	second, err := s.c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpRead), Node: s.file.Entry.NodeID,
		Args: fusesrvtest.Args(t, fusesrv.ReadIn{Offset: 4096, Size: 4096}), Room: 4096}) // waits for the one worker
	if err == nil {
		err = s.c.Ring.Kick()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.getattr(t) // its reply shows that the ring has taken the READ before it
	if err := s.guest.Stop(s.conn); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for range 2 {
		r, err := s.c.Recv()
		if err != nil || r.Errno != syscall.EIO {
			t.Errorf("got errno %v, error %v, want EIO", r.Errno, err)
		}
		seen[r.Unique] = true
	}
	if !seen[first] || !seen[second] {
		t.Errorf("got replies to %v, want ones to %#x and %#x", seen, first, second)
	}
	close(s.release)
	if err := s.guest.Activate(s.conn); err != nil {
		t.Fatal(err)
	}
	b, err := fusesrvtest.Read(s.c, s.file.Entry.NodeID, 0, 0, 4096)
	if err != nil || !bytes.Equal(b, s.content[:4096]) {
		t.Errorf("after a restart: got %d bytes, error %v, want the file's first 4096", len(b), err)
	}
}

func TestAbortEndsAHungRequest(t *testing.T) {
	s := newStalled(t, virtiofs.Options{}, vhostusertest.GuestConfig{QueueSize: 512})
	unique := s.send(t, 4096)
	n := s.Server.Abort(func(f fusesrv.Inflight) bool { return f.Unique == unique })
	if n != 1 {
		t.Errorf("aborted %d requests, want 1", n)
	}
	r, err := s.c.Recv()
	if err != nil || r.Unique != unique || !errors.Is(r.Errno, syscall.EIO) {
		t.Errorf("got errno %v, error %v, want EIO", r.Errno, err)
	}
	close(s.release)
	s.getattr(t)
}
