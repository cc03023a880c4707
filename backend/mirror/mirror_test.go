package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/health"
)

// well is the health of a mirror that is always asked.
type well struct{}

func (well) Well() bool { return true }
func (well) Worked()    {}
func (well) Failed()    {}

var errDown = &backend.Error{Host: "h", Cause: errors.New("connection refused")}

// TestConformance with mirrors that have everything, nothing, and half of each read.
func TestConformance(t *testing.T) {
	for name, fault := range map[string]backendtest.Fault{
		"good": {}, "down": {Err: errDown}, "cut": {Short: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
				first := backendtest.Faulty(backendtest.Memory(blobs), func(backendtest.Read) backendtest.Fault { return fault })
				return New(backendtest.Memory(blobs), []Mirror{{first, well{}}, {backendtest.Memory{}, well{}}})
			})
		})
	}
}

// A scene is two mirrors and an origin that note who is asked, and fail as told.
type scene struct {
	mu     sync.Mutex
	asked  []string
	fails  map[string]error
	health map[string]*health.Health
	blob   backend.Blob
}

func newScene(t *testing.T, o health.Options) *scene {
	t.Helper()
	s := &scene{fails: map[string]error{}, health: map[string]*health.Health{}}
	place := func(name string) backend.Opener {
		return backendtest.Faulty(backendtest.Memory{"id": []byte("0123456789")}, func(r backendtest.Read) backendtest.Fault {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked = append(s.asked, name)
			return backendtest.Fault{Err: s.fails[name]}
		})
	}
	var mirrors []Mirror
	for _, name := range []string{"a", "b"} {
		h := health.New(o)
		t.Cleanup(h.Close)
		s.health[name] = h
		mirrors = append(mirrors, Mirror{place(name), h})
	}
	var err error
	if s.blob, err = New(place("origin"), mirrors).Open(t.Context(), "id"); err != nil {
		t.Fatal(err)
	}
	return s
}

// read reads and says who was asked.
func (s *scene) read(t *testing.T, ctx context.Context, ok bool) string {
	t.Helper()
	s.asked = nil
	p := make([]byte, 4)
	if _, err := s.blob.ReadAt(ctx, p, 2); (err == nil) != ok || ok && string(p) != "2345" {
		t.Errorf("got %q, %v", p, err)
	}
	return strings.Join(s.asked, " ")
}

func TestPlacesAreAskedInOrder(t *testing.T) {
	missing := fmt.Errorf("%w: here", backend.ErrNotFound)
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		fails map[string]error
		want  string
	}{
		{"the first has it", t.Context(), nil, "a"},
		{"the first is down", t.Context(), map[string]error{"a": errDown}, "a b"},
		{"both are down", t.Context(), map[string]error{"a": errDown, "b": errDown}, "a b origin"},
		{"the first hasn't got it", t.Context(), map[string]error{"a": &backend.Error{Host: "a", Cause: missing, Class: backend.ErrNotFound}}, "a b"},
		{"a second request", backend.Elsewhere(t.Context()), nil, "b"},
		{"a second request, one is down", backend.Elsewhere(t.Context()), map[string]error{"b": errDown}, "b origin"},
		{"the origin is wanted", backend.FromOrigin(t.Context()), nil, "origin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, health.Options{Failures: 5, Interval: time.Hour})
			if tt.fails != nil {
				s.fails = tt.fails
			}
			if got := s.read(t, tt.ctx, true); got != tt.want {
				t.Errorf("asked %q, want %q", got, tt.want)
			}
		})
	}
}

// TestMirrorsAreSkippedAndComeBack: after failures in a row, and what they have not got.
func TestMirrorsAreSkippedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, health.Options{Failures: 2, Interval: 30 * time.Second})
		step := func(want string) {
			t.Helper()
			if got := s.read(t, t.Context(), true); got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		}
		s.fails["a"] = errDown
		step("a b")
		step("a b")
		step("b")
		<-time.After(30 * time.Second)
		step("a b") // one chance
		step("b")
		<-time.After(30 * time.Second)
		delete(s.fails, "a")
		step("a")
		s.fails["a"] = &backend.Error{Host: "a", Class: backend.ErrNotFound}
		step("a b")
		delete(s.fails, "a")
		step("b")
		<-time.After(absentFor)
		step("a")
	})
}

// TestWhatOnePlaceBroughtStays: the next one is asked for the rest.
func TestWhatOnePlaceBroughtStays(t *testing.T) {
	var offs []uint64
	note := func(o backend.Opener, f backendtest.Fault) backend.Opener {
		return backendtest.Faulty(o, func(r backendtest.Read) backendtest.Fault {
			offs = append(offs, r.Off)
			return f
		})
	}
	blobs := backendtest.Memory{"id": []byte("0123456789")}
	b, err := New(note(blobs, backendtest.Fault{}), []Mirror{{note(blobs, backendtest.Fault{Short: 4}), well{}}}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if n, err := backend.ReadTo(t.Context(), b, &got, 1, 8); n != 8 || err != nil || got.String() != "12345678" || fmt.Sprint(offs) != "[1 5]" {
		t.Errorf("got %d %q, %v by reads at %v", n, got.String(), err, offs)
	}
}

func TestTheOriginHasTheLastWord(t *testing.T) {
	s := newScene(t, health.Options{Failures: 5, Interval: time.Hour})
	last := &backend.Error{Host: "origin", Status: 404, Class: backend.ErrNotFound}
	s.fails = map[string]error{"a": errDown, "b": errDown, "origin": last}
	if _, err := s.blob.ReadAt(t.Context(), make([]byte, 4), 0); !errors.Is(err, last) {
		t.Errorf("got %v, want %v", err, last)
	}
}
