package pace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

func TestConformance(t *testing.T) {
	for _, r := range []Rates{{}, {All: 1 << 40}, {Prefetch: 1}} {
		backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
			return New(r).Wrap(backendtest.Memory(blobs))
		})
	}
}

// TestRatesAreKept by reads of 100 bytes; demands don't wait for what prefetches took.
func TestRatesAreKept(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name  string
		rates Rates
		reads string          // d and p, one after the other
		took  []time.Duration // when each was let go
	}{
		{"no bound on demands", Rates{Prefetch: 100}, "ddpdpd", []time.Duration{0, 0, 0, 0, 1000 * ms, 1000 * ms}},
		{"a bound on all", Rates{All: 100}, "ddd", []time.Duration{0, 1000 * ms, 2000 * ms}},
		{"demands pass prefetches", Rates{All: 100}, "ppdp", []time.Duration{0, 1000 * ms, 1000 * ms, 3000 * ms}},
		{"also those that came later", Rates{All: 100}, "ppdd", []time.Duration{0, 1000 * ms, 1000 * ms, 2000 * ms}},
		{"both", Rates{All: 200, Prefetch: 100}, "ppdp", []time.Duration{0, 1000 * ms, 1000 * ms, 2000 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := New(tt.rates).Wrap(backendtest.Memory{"id": make([]byte, 1000)}).Open(t.Context(), "id")
				begin := time.Now()
				for i, kind := range tt.reads {
					ctx := t.Context()
					if kind == 'p' {
						ctx = backend.ForPrefetch(ctx)
					}
					if _, err := b.ReadAt(ctx, make([]byte, 100), 0); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(begin); took != tt.took[i] {
						t.Errorf("read %d was let go after %v, want %v", i, took, tt.took[i])
					}
				}
			})
		})
	}
}

// TestLongReadsAreHeldToTheRate, handed over in either way.
func TestLongReadsAreHeldToTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 4*piece/16)
		p := make([]byte, len(data))
		for name, w := range map[string]io.Writer{"writer": struct{ io.Writer }{bytes.NewBuffer(p[:0])}, "reader": backend.Fill(p)} {
			clear(p)
			b, _ := New(Rates{Prefetch: piece}).Wrap(backendtest.Memory{"id": data}).Open(t.Context(), "id")
			begin := time.Now()
			n, err := backend.ReadTo(backend.ForPrefetch(t.Context()), b, w, 0, uint64(len(data)))
			if err != nil || n != uint64(len(data)) || !bytes.Equal(p, data) {
				t.Errorf("%s: %d, %v, or wrong bytes", name, n, err)
			}
			if took := time.Since(begin); took != 3*time.Second {
				t.Errorf("%s: took %v", name, took)
			}
		}
	})
}

func TestWhoIsWantedOrLeavesWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := New(Rates{Prefetch: 1}).Wrap(backendtest.Memory{"id": make([]byte, 1000)}).Open(t.Context(), "id")
		wanted := make(chan struct{})
		ctx, cancel := context.WithCancel(backend.ForPrefetch(t.Context()))
		read := func(ctx context.Context) error {
			_, err := b.ReadAt(ctx, make([]byte, 100), 0)
			return err
		}
		begin := time.Now()
		if err := read(ctx); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { close(wanted) })
		time.AfterFunc(2*time.Second, cancel)
		if err := read(backend.ForPrefetchUntil(t.Context(), wanted)); err != nil || time.Since(begin) != time.Second {
			t.Errorf("wanted: %v after %v", err, time.Since(begin))
		}
		if err := read(ctx); !errors.Is(err, context.Canceled) || time.Since(begin) != 2*time.Second {
			t.Errorf("left: %v after %v", err, time.Since(begin))
		}
	})
}
