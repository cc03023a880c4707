package health

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestPlacesAreSickAfterFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Failures: 3, Interval: time.Minute})
		defer h.Close()
		well := func(want bool) {
			t.Helper()
			if h.Well() != want {
				t.Fatalf("well: %v", !want)
			}
		}
		for range 5 {
			h.Failed()
			h.Failed()
			well(true)
			h.Worked()
		}
		h.Failed()
		h.Failed()
		h.Failed()
		well(false)
		pass(time.Minute - 1)
		well(false)
		pass(1)
		well(true)
		h.Failed() // it is given no more than one chance
		well(false)
		pass(time.Minute)
		well(true)
		h.Worked()
		h.Failed()
		well(true)
	})
}

// TestPlacesAreProbedWhileTheyAreUsed, and for a while after.
func TestPlacesAreProbedWhileTheyAreUsed(t *testing.T) {
	for name, tt := range map[string]struct {
		pause time.Duration
		after int // probes without a use
	}{"with a pause": {time.Minute, 6}, "without": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				probes := 0
				var err error
				h := New(Options{Interval: 10 * time.Second, Pause: tt.pause, Probe: func(context.Context) error {
					probes++
					return err
				}})
				defer h.Close()
				look := func(well bool, want int) {
					t.Helper()
					got := h.Well()
					synctest.Wait()
					if got != well || probes != want {
						t.Fatalf("well %v after %d probes, want %v after %d", got, probes, well, want)
					}
				}
				pass(time.Hour)
				look(true, 1)
				pass(time.Hour)
				probes -= tt.after // as long as the pause lasts
				look(true, 2)
				look(true, 2) // not twice at once
				err = errDown
				pass(10*time.Second + 1)
				if tt.pause == 0 {
					look(true, 3) // which finds out
				}
				look(false, 3)
				h.Worked() // a request that began before
				h.Failed()
				look(false, 3)
				err = nil
				pass(10*time.Second + 1)
				if tt.pause == 0 {
					look(false, 4)
				}
				look(true, 4)
			})
		})
	}
}

func TestCloseEndsAProbe(t *testing.T) {
	began := make(chan struct{})
	h := New(Options{Interval: time.Hour, Probe: func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}})
	h.Well()
	<-began
	h.Close()
	h.Well() // starts nothing more
}

func TestPlacesMayBeProbedOnlyWhenSick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probes, down := 0, true
		h := New(Options{Interval: time.Second, Pause: time.Hour, WhenSick: true, Probe: func(context.Context) error {
			if probes++; down {
				return errDown
			}
			return nil
		}})
		defer h.Close()
		h.Well()
		pass(time.Minute)
		if probes != 0 || h.Sick() {
			t.Errorf("%d probes of a place that is well", probes)
		}
		h.Failed()
		h.Well()
		pass(2*time.Second + 1)
		if probes != 3 || !h.Sick() {
			t.Errorf("%d probes of a sick place", probes)
		}
		down = false
		pass(time.Minute)
		if probes != 4 || h.Sick() {
			t.Errorf("%d probes until it is well", probes)
		}
	})
}
