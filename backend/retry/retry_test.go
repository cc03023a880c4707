package retry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
		return New(backendtest.Memory(blobs), Options{})
	})
}

var errReset = errors.New("connection reset")

// read reads 8 bytes at 4 from a back end with faults, one per try; it returns
// what was asked for and how long all took.
func read(t *testing.T, ctx context.Context, o Options, faults ...backendtest.Fault) (n int, asked []backendtest.Read, took time.Duration, err error) {
	t.Helper()
	inner := backendtest.Faulty(backendtest.Memory{"id": []byte("0123456789abcdef")}, func(r backendtest.Read) backendtest.Fault {
		asked = append(asked, r)
		f := faults[min(len(asked), len(faults))-1]
		if f.Wait != nil {
			f.Wait = make(chan struct{}) // one that synctest knows
		}
		return f
	})
	b, err := New(inner, o).Open(ctx, "id")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p := make([]byte, 8)
	n, err = b.ReadAt(ctx, p, 4)
	if err == nil && string(p) != "456789ab" {
		t.Errorf("got %q", p)
	}
	return n, asked, time.Since(begin), err
}

func TestReadAt(t *testing.T) {
	fine, reset := backendtest.Fault{}, backendtest.Fault{Err: errReset}
	final := backendtest.Fault{Err: backend.ErrPermanent}
	busy := backendtest.Fault{Err: &backend.Error{Status: 429, After: 5 * time.Second}}
	closed := backendtest.Fault{Err: &backend.Error{Status: 503, After: 10 * time.Minute}}
	stalled := backendtest.Fault{Wait: make(chan struct{})}
	for _, tt := range []struct {
		name     string
		faults   []backendtest.Fault
		err      error
		tries    int
		min, max time.Duration
	}{
		{"a read that succeeds is not repeated", []backendtest.Fault{fine}, nil, 1, 0, 0},
		{"trouble that passes is not seen", []backendtest.Fault{reset, reset, fine}, nil, 3, 150 * time.Millisecond, 300 * time.Millisecond},
		{"trouble that stays ends after the last try", []backendtest.Fault{reset}, errReset, 4, 350 * time.Millisecond, 700 * time.Millisecond},
		{"permanent errors are final", []backendtest.Fault{final}, backend.ErrPermanent, 1, 0, 0},
		{"the end of a blob is final", []backendtest.Fault{{Short: 3}}, io.ErrUnexpectedEOF, 1, 0, 0},
		{"a server's wish is granted", []backendtest.Fault{busy, fine}, nil, 2, 5 * time.Second, 5 * time.Second},
		{"unless it leaves no time", []backendtest.Fault{closed, fine}, closed.Err, 1, 0, 0},
		{"a stall ends with the total, and the trouble before it is told", []backendtest.Fault{reset, stalled}, errReset, 2, 50 * time.Second, 50 * time.Second},
		{"a stall at once ends with the total", []backendtest.Fault{stalled}, errTotal, 1, 50 * time.Second, 50 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, asked, took, err := read(t, t.Context(), Options{}, tt.faults...)
				if !errors.Is(err, tt.err) || (err == nil) != (n == 8) {
					t.Errorf("got %d, %v, want error %v", n, err, tt.err)
				}
				if tt.err == errTotal && !strings.Contains(err.Error(), "blob id: no success") {
					t.Errorf("%v does not name the blob", err)
				}
				if len(asked) != tt.tries || took < tt.min || took > tt.max {
					t.Errorf("%d tries in %v, want %d in %v to %v", len(asked), took, tt.tries, tt.min, tt.max)
				}
			})
		})
	}
}

// TestWhoAsksDecidesHowOften: a read that somebody waits for tries the origin at last,
// a prefetch gives up early.
func TestWhoAsksDecidesHowOften(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		origin []bool // of each try
	}{
		{"demand", t.Context(), []bool{false, false, false, true}},
		{"prefetch", backend.ForPrefetch(t.Context()), []bool{false, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, asked, _, err := read(t, tt.ctx, Options{Pause: time.Nanosecond}, backendtest.Fault{Err: errReset})
			var got []bool
			for _, r := range asked {
				got = append(got, r.Origin)
			}
			if !slices.Equal(got, tt.origin) || !errors.Is(err, errReset) {
				t.Errorf("got tries %v, %v, want %v", got, err, tt.origin)
			}
		})
	}
}

// cut is a back end that gives three bytes and an error at each read.
type cut struct{ backend.Blob }

func (c cut) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := c.Blob.ReadAt(ctx, p[:min(3, len(p))], off)
	if n < len(p) && err == nil {
		err = errReset
	}
	return n, err
}

func (c cut) Open(context.Context, string) (backend.Blob, error) { return c, nil }

func TestATryGoesOnWhereTheLastOneStopped(t *testing.T) {
	inner, _ := backendtest.Memory{"id": []byte("0123456789abcdef")}.Open(t.Context(), "id")
	b, err := New(cut{inner}, Options{Pause: time.Nanosecond}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8)
	if n, err := b.ReadAt(t.Context(), p, 4); err != nil || n != 8 || string(p) != "456789ab" {
		t.Errorf("got %d %q, %v", n, p, err)
	}
}

func TestAnEndedContextEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		o := Options{Pause: time.Hour, Max: time.Hour, Total: 3 * time.Hour}
		_, asked, took, err := read(t, ctx, o, backendtest.Fault{Err: errReset})
		if !errors.Is(err, errReset) || len(asked) != 1 || took != time.Second {
			t.Errorf("got %v after %d tries and %v", err, len(asked), took)
		}
	})
}

func TestHandedOverBytesAreNotAskedForAgain(t *testing.T) {
	inner, _ := backendtest.Memory{"id": []byte("0123456789abcdef")}.Open(t.Context(), "id")
	b, err := New(cut{inner}, Options{Pause: time.Nanosecond}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if n, err := backend.ReadTo(t.Context(), b, &got, 4, 8); err != nil || n != 8 || got.String() != "456789ab" {
		t.Errorf("got %d %q, %v", n, &got, err)
	}
}
