package hosts

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"vrafs/backend"
)

// clocked is a table with a clock that the test moves.
func clocked(o Options) (t *Table, clock *time.Time) {
	clock = new(time.Time)
	*clock = time.Unix(1, 0)
	t = New(o)
	t.now = func() time.Time { return *clock }
	return t, clock
}

var errRefused = errors.New("connection refused")

// ask sends one request and reports whether it was sent.
func ask(h *Host, o Outcome) bool {
	v, err := h.Enter()
	if err != nil {
		return false
	}
	v.Leave(o, 1, errRefused)
	return true
}

func TestHostsThatFailAreLeftAloneForAShortGrowingTime(t *testing.T) {
	var told []Change
	tab, clock := clocked(Options{Failures: 3, Min: time.Second, Max: 4 * time.Second, Report: func(c Change) { told = append(told, c) }})
	h := tab.Host("h:1")
	for i, o := range []Outcome{Failed, Failed, Alive, Failed, Failed, Unknown, Failed} {
		if !ask(h, o) {
			t.Fatalf("request %d is not sent", i)
		}
	}
	for _, pause := range []time.Duration{1, 2, 4, 4} {
		if ask(h, Alive) {
			t.Fatalf("asked at once, pause %d s", pause)
		}
		*clock = clock.Add(pause*time.Second - 1)
		if ask(h, Alive) {
			t.Fatalf("asked before %d s are over", pause)
		}
		*clock = clock.Add(1)
		if !ask(h, Failed) {
			t.Fatalf("not asked after %d s", pause)
		}
	}
	*clock = clock.Add(4 * time.Second)
	if !ask(h, Alive) || !ask(h, Failed) || !ask(h, Alive) {
		t.Error("a host that is back is not asked")
	}
	want := []Change{
		{"h:1", true, errRefused, 3, 0},
		{"h:1", false, errRefused, 7, 15 * time.Second},
	}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if s := tab.Stats(); len(s) != 1 || s[0] != (Stats{Host: "h:1", Requests: 14, Failed: 10, Refused: 8, Bytes: 14}) {
		t.Errorf("counted %+v", s)
	}
}

// TestOneRequestDecides whether a host is asked again; those from before say nothing,
// unless the host answers one of them.
func TestOneRequestDecides(t *testing.T) {
	tab, clock := clocked(Options{Failures: 1, Min: time.Second})
	h := tab.Host("h:1")
	enter := func() Visit {
		t.Helper()
		v, err := h.Enter()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	early, another, third := enter(), enter(), enter()
	ask(h, Failed)
	*clock = clock.Add(time.Second)
	trial := enter()
	for _, old := range []struct {
		v Visit
		o Outcome
	}{{early, Failed}, {another, Unknown}} {
		old.v.Leave(old.o, 0, errRefused)
		if ask(h, Alive) {
			t.Error("a second request is sent beside the one that decides")
		}
	}
	trial.Leave(Unknown, 0, nil)
	trial = enter() // its reader gave up, so another one decides
	if ask(h, Alive) {
		t.Error("a second request is sent beside the one that decides")
	}
	third.Leave(Alive, 0, nil)
	if !ask(h, Alive) {
		t.Error("a host that answered is not asked")
	}
	trial.Leave(Unknown, 0, nil)
}

// TestLongAnswersDecideWhenTheyBegin: another request need not wait for the end.
func TestLongAnswersDecideWhenTheyBegin(t *testing.T) {
	tab, clock := clocked(Options{Failures: 1, Min: time.Second})
	h := tab.Host("h:1")
	ask(h, Failed)
	*clock = clock.Add(time.Second)
	long, err := h.Enter()
	if err != nil || ask(h, Alive) {
		t.Fatalf("got %v, or a second request is sent beside the one that decides", err)
	}
	long.Began()
	for range 2 {
		if !ask(h, Alive) {
			t.Error("a host whose answer has begun is not asked")
		}
	}
	long.Leave(Failed, 0, errRefused)
	if ask(h, Alive) {
		t.Error("the failure of the long answer does not count")
	}
}

func TestRefusalsNameHostCauseAndTime(t *testing.T) {
	tab, _ := clocked(Options{Failures: 2, Min: time.Second})
	h := tab.Host("h:1")
	ask(h, Failed)
	ask(h, Failed)
	_, err := h.Enter()
	e := (*backend.Error)(nil)
	want := "h:1: left alone after 2 failures in a row, asked again in 1s; the last was: connection refused; check the host and the network"
	if !errors.As(err, &e) || err.Error() != want || e.After != time.Second || !errors.Is(err, errRefused) || errors.Is(err, backend.ErrPermanent) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestTablesAreBoundedAndKeepTheirSums(t *testing.T) {
	tab, clock := clocked(Options{Hosts: 2})
	for i := range 10 {
		*clock = clock.Add(time.Second)
		ask(tab.Host("often"), Alive)
		*clock = clock.Add(time.Second)
		ask(tab.Host(fmt.Sprintf("redirect-%d", i)), Failed)
	}
	s := tab.Stats()
	want := []Stats{
		{Host: "often", Requests: 10, Bytes: 10},
		{Host: "redirect-9", Requests: 1, Failed: 1, Bytes: 1},
		{Requests: 9, Failed: 9, Bytes: 9},
	}
	if fmt.Sprint(s) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestWithoutATableEverythingIsAsked(t *testing.T) {
	var tab *Table
	for range 10 {
		if !ask(tab.Host("h"), Failed) {
			t.Fatal("refused")
		}
	}
	if tab.Stats() != nil {
		t.Error("counted")
	}
}

// TestHostsAreSharedByManyReaders is for the race detector, and for what must add up.
func TestHostsAreSharedByManyReaders(t *testing.T) {
	tab := New(Options{Min: time.Microsecond, Max: time.Microsecond, Hosts: 3})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				ask(tab.Host(strings.Repeat("h", (i+j)%5+1)), Outcome(j%3))
			}
		})
	}
	wg.Wait()
	sum := uint64(0)
	for _, s := range tab.Stats() {
		sum += s.Requests + s.Refused
	}
	if sum > 8000 || sum == 0 {
		t.Errorf("%d requests of 8000", sum)
	}
}
