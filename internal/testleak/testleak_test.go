package testleak

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

// A recorder keeps what a check says instead of failing.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func TestDescriptorsAreCounted(t *testing.T) {
	before := Descriptors(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if n := Descriptors(t); n != before+1 {
		t.Errorf("%d with one more, were %d", n, before)
	}
	_ = f.Close()
	if n := Descriptors(t); n != before {
		t.Errorf("%d without it, were %d", n, before)
	}
}

func TestGrowthIsNoticed(t *testing.T) {
	r := &recorder{TB: t}
	check := Growth(r)
	if check(); len(r.said) != 0 {
		t.Errorf("nothing has grown: %q", r.said)
	}
	end, leaked := make(chan struct{}), make([]byte, 2*heapRoom)
	defer close(end)
	go func() { <-end }()
	if check(); len(r.said) != 2 {
		t.Errorf("a goroutine and %d bytes more: %q", len(leaked), r.said)
	}
	runtime.KeepAlive(leaked)
}
