package turn

import (
	"runtime"
	"testing"
	"time"
)

func TestTurnsEndInTime(t *testing.T) {
	var u Turn
	now := time.Unix(1, 0)
	for i, tt := range []struct {
		later time.Duration
		over  bool
	}{{0, true}, {length - 1, false}, {1, true}, {1, false}, {length, true}, {10 * length, true}, {0, false}} {
		now = now.Add(tt.later)
		if got := u.over(now); got != tt.over {
			t.Errorf("look %d: over is %t, want %t", i, got, tt.over)
		}
	}
}

// TestStepsLetOthersIn steps while another goroutine waits for the only processor, which it
// would get after 10 ms otherwise.
func TestStepsLetOthersIn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ran := make(chan bool, 1)
	go func() { ran <- true }()
	for range 3 { // the scheduler may choose us again, once in 61 times
		u := Turn{}
		for range steps {
			u.Step()
		}
	}
	if len(ran) == 0 {
		t.Error("nobody was let in")
	}
}

func TestStepsTakeNothingNew(t *testing.T) {
	var u Turn
	if n := testing.AllocsPerRun(1000, u.Step); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
