package window

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

func always(context.Context) bool { return true }

var errDown = &backend.Error{Host: "proxy", Cause: errors.New("connection refused")}

func TestConformance(t *testing.T) {
	for name, fault := range map[string]func(backendtest.Read) backendtest.Fault{
		"shared":               func(backendtest.Read) backendtest.Fault { return backendtest.Fault{} },
		"nothing to be shared": func(r backendtest.Read) backendtest.Fault { return down(!r.Origin) },
		"now and then":         func(r backendtest.Read) backendtest.Fault { return down(!r.Origin && r.Off%3 == 1) },
	} {
		for _, size := range []uint64{1 << 20, 100_000} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
					return New(backendtest.Faulty(backendtest.Memory(blobs), fault),
						Options{Size: size, Memory: NewMemory(3 * size), Shared: always, Origin: true})
				})
			})
		}
	}
}

func down(yes bool) backendtest.Fault {
	if yes {
		return backendtest.Fault{Err: errDown}
	}
	return backendtest.Fault{}
}

// noted is a blob of 1000 bytes read in windows of 100, and the requests for it.
type noted struct {
	mu       sync.Mutex
	requests []string
	fault    func(backendtest.Read) backendtest.Fault
	opt      Options
	blob     backend.Blob
	data     []byte
}

func newNoted(t *testing.T, change func(*noted)) *noted {
	t.Helper()
	n := &noted{opt: Options{Size: 100, Memory: NewMemory(1000), Shared: always, Origin: true}, data: make([]byte, 1000)}
	for i := range n.data {
		n.data[i] = byte(i * 7)
	}
	if change != nil {
		change(n)
	}
	b, err := New(backendtest.Faulty(backendtest.Memory{"id": n.data}, func(r backendtest.Read) backendtest.Fault {
		way := map[bool]string{true: " from the origin"}[r.Origin]
		n.mu.Lock()
		n.requests = append(n.requests, fmt.Sprintf("%d+%d%s", r.Off, r.Len, way))
		n.mu.Unlock()
		if n.fault == nil {
			return backendtest.Fault{}
		}
		return n.fault(r)
	}), n.opt).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	n.blob = b
	t.Cleanup(func() { _ = b.Close() })
	return n
}

// read reads and gives the requests that it took.
func (n *noted) read(t *testing.T, ctx context.Context, off, size int) string {
	t.Helper()
	n.requests = nil
	p := make([]byte, size)
	if k, err := n.blob.ReadAt(ctx, p, uint64(off)); err != nil || k != size || !bytes.Equal(p, n.data[off:off+size]) {
		t.Errorf("%d bytes at %d: %d, %v, or wrong bytes", size, off, k, err)
	}
	return strings.Join(n.requests, ", ")
}

// TestRequestsAreTheSameOnEveryHost: whole windows, whatever is read in whatever order;
// edges are asked for once.
func TestRequestsAreTheSameOnEveryHost(t *testing.T) {
	n := newNoted(t, nil)
	for _, tt := range []struct {
		off, size int
		want      string
	}{
		{120, 30, "100+100"},
		{150, 50, ""}, // beside it
		{150, 260, "200+100, 300+100, 400+100"},
		{410, 80, ""},
		{0, 100, "0+100"},
		{950, 50, "900+100"},
		{880, 20, "800+100"},
	} {
		if got := n.read(t, t.Context(), tt.off, tt.size); got != tt.want {
			t.Errorf("%d bytes at %d took %q, want %q", tt.size, tt.off, got, tt.want)
		}
	}
	if s := n.opt.Memory.Stats(); s.Asked != 4 || s.Reused != 3 || s.Bytes != 400 {
		t.Errorf("counted %+v", s)
	}
}

// TestWhatIsNotSharedIsExact.
func TestWhatIsNotSharedIsExact(t *testing.T) {
	shared := true
	n := newNoted(t, func(n *noted) { n.opt.Shared = func(context.Context) bool { return shared } })
	if got := n.read(t, backend.FromOrigin(t.Context()), 150, 20); got != "150+20 from the origin" {
		t.Errorf("from the origin: %q", got)
	}
	shared = false
	if got := n.read(t, t.Context(), 150, 20); got != "150+20" {
		t.Errorf("without a proxy: %q", got)
	}
	shared = true
	n.fault = func(r backendtest.Read) backendtest.Fault { return down(!r.Origin && r.Off >= 200) }
	if got := n.read(t, t.Context(), 150, 200); got != "100+100, 200+100, 200+150 from the origin" {
		t.Errorf("a proxy that fails: %q", got)
	}
	lone := newNoted(t, func(l *noted) { l.opt.Origin, l.fault = false, n.fault })
	if k, err := lone.blob.ReadAt(t.Context(), make([]byte, 200), 150); k != 50 || !errors.Is(err, errDown) || len(lone.requests) != 2 {
		t.Errorf("without an origin: %d, %v by %q", k, err, lone.requests)
	}
}

// TestRefusalsOfTheOriginAreFinal, those of the proxy are not.
func TestRefusalsOfTheOriginAreFinal(t *testing.T) {
	for status, again := range map[int]bool{404: false, 403: false, 407: true, 429: true, 503: true} {
		e := &backend.Error{Host: "h", Status: status}
		if status < 429 {
			e.Class = backend.ErrPermanent
		}
		n := newNoted(t, func(n *noted) {
			n.fault = func(r backendtest.Read) backendtest.Fault {
				if r.Origin {
					return backendtest.Fault{}
				}
				return backendtest.Fault{Err: e}
			}
		})
		_, err := n.blob.ReadAt(t.Context(), make([]byte, 10), 5)
		if (err == nil) != again || again != slices.Contains(n.requests, "5+10 from the origin") {
			t.Errorf("%d: %v by %q", status, err, n.requests)
		}
	}
}

// TestOneRequestForAllWhoWantAnEdge: it goes down with the last of them, and is no
// prefetch any more when one of them is none.
func TestOneRequestForAllWhoWantAnEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var seen []backendtest.Read
		n := newNoted(t, func(n *noted) {
			n.fault = func(r backendtest.Read) backendtest.Fault {
				seen = append(seen, r)
				return backendtest.Fault{Wait: gate}
			}
		})
		results := make(chan error, 3)
		read := func(ctx context.Context, off uint64) context.CancelFunc {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				_, err := n.blob.ReadAt(ctx, make([]byte, 10), off)
				results <- err
			}()
			synctest.Wait()
			return cancel
		}
		leaves := read(backend.ForPrefetch(t.Context()), 110)
		if len(seen) != 1 || !seen[0].Prefetch || isClosed(seen[0].Wanted) {
			t.Fatalf("requests %+v", seen)
		}
		read(t.Context(), 150)
		if len(seen) != 1 || !isClosed(seen[0].Wanted) {
			t.Errorf("%d requests, wanted %v", len(seen), isClosed(seen[0].Wanted))
		}
		leaves()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(gate)
		if err := <-results; err != nil {
			t.Errorf("who stayed got %v", err)
		}
		gate = make(chan struct{})
		leaves = read(t.Context(), 510)
		leaves()
		<-results
		n.blob.(*blob).wg.Wait() // the request ends with it
		if len(n.blob.(*blob).flights) != 0 {
			t.Error("a request goes on that nobody waits for")
		}
		close(gate)
		wanted := make(chan struct{})
		gate = make(chan struct{})
		read(backend.ForPrefetchUntil(t.Context(), wanted), 710)
		close(wanted)
		synctest.Wait()
		if last := seen[len(seen)-1]; !last.Prefetch || !isClosed(last.Wanted) {
			t.Error("a prefetch that is wanted isn't told so")
		}
		close(gate)
		<-results
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return c != nil
	default:
		return false
	}
}

func TestEdgesAreKeptForAMomentAndWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNoted(t, func(n *noted) { n.opt.Memory = NewMemory(250) })
		n.read(t, t.Context(), 10, 10)
		<-time.After(time.Second)
		n.read(t, t.Context(), 110, 10)
		<-time.After(time.Second)
		n.read(t, t.Context(), 20, 10) // used last
		n.read(t, t.Context(), 210, 10)
		if s := n.opt.Memory.Stats(); s.Bytes != 200 {
			t.Errorf("%d bytes are kept", s.Bytes)
		}
		if got := n.read(t, t.Context(), 30, 10) + n.read(t, t.Context(), 220, 10); got != "" {
			t.Errorf("the two used last are not kept: %q", got)
		}
		<-time.After(2 * keepTime)
		synctest.Wait()
		if s := n.opt.Memory.Stats(); s.Bytes != 0 {
			t.Errorf("%d bytes are kept long after", s.Bytes)
		}
		n.read(t, t.Context(), 10, 10)
		_ = n.blob.Close()
		if s := n.opt.Memory.Stats(); s.Bytes != 0 {
			t.Errorf("%d bytes are kept of a closed blob", s.Bytes)
		}
	})
}

// TestKeptEdgesTakeWhatIsCounted, also where the blob ends in one.
func TestKeptEdgesTakeWhatIsCounted(t *testing.T) {
	n := newNoted(t, func(n *noted) { n.data = n.data[:910] })
	n.read(t, t.Context(), 902, 5)
	for _, e := range n.opt.Memory.m {
		if len(e.data) != 10 || cap(e.data) > 32 {
			t.Errorf("an edge of %d bytes takes %d", len(e.data), cap(e.data))
		}
	}
	if s := n.opt.Memory.Stats(); s.Bytes != 10 {
		t.Errorf("counted %+v", s)
	}
}
