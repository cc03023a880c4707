// Package backendtest holds what every back end must do, as one suite, and back
// ends for the tests of others: a Memory, and Faulty, which spoils another one.
//
//	Run(t, open)             the contract of backend.Blob and backend.Opener
//	RunPadded(t, unit, open) the same for back ends that keep whole sectors
//	Memory{id: bytes}        blobs in memory
//	Faulty(inner, fault)     short, wrong, stalled and failing reads
//
// Trust: none, it is for tests. Concurrency: everything may be called from any
// goroutine. Source: the comments of package backend.
package backendtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"testing"

	"vrafs/backend"
)

// Run checks the contract on the back end that open makes for a set of blobs. Their
// ids are their SHA-256, as registries want it.
func Run(t *testing.T, open func(t *testing.T, blobs map[string][]byte) backend.Opener) {
	RunPadded(t, 1, open)
}

// RunPadded is Run for back ends that keep blobs in units of a size, in bytes, and fill
// the last one with zeros.
func RunPadded(t *testing.T, unit int, open func(t *testing.T, blobs map[string][]byte) backend.Opener) {
	data := make([]byte, 3<<20+17)
	for i := range data {
		data[i] = byte(i*7 + i>>8 + i>>16)
	}
	id, other := digest(data), []byte("x")
	o := open(t, map[string][]byte{id: data, digest(other): other})
	padding := (unit - len(data)%unit) % unit
	suite := &suite{o: o, id: id, data: append(data, make([]byte, padding)...)}
	t.Run("reads any range", suite.ranges)
	t.Run("hands bytes over while they come", suite.stream)
	t.Run("a writer that wants no more ends the read", suite.stop)
	t.Run("crossing the end gives what there is", suite.end)
	t.Run("size is the length", suite.size)
	t.Run("unknown blobs are not found", suite.unknown)
	t.Run("reads run beside each other", suite.parallel)
	t.Run("an ended context ends the read", suite.context)
	t.Run("closed blobs refuse reads", suite.closed)
}

func digest(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

type suite struct {
	o    backend.Opener
	id   string
	data []byte
}

func (s *suite) open(t *testing.T) backend.Blob {
	t.Helper()
	b, err := s.o.Open(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (s *suite) ranges(t *testing.T) {
	b := s.open(t)
	end := uint64(len(s.data))
	for _, r := range [][2]uint64{{0, 1}, {0, 4096}, {1, 4095}, {4095, 2}, {1 << 20, 1 << 20}, {end - 1, 1}, {0, end}, {end / 2, 0}} {
		p := make([]byte, r[1])
		if n, err := b.ReadAt(t.Context(), p, r[0]); err != nil || n != len(p) {
			t.Errorf("%d bytes at %d: %d, %v", r[1], r[0], n, err)
		} else if !bytes.Equal(p, s.data[r[0]:r[0]+r[1]]) {
			t.Errorf("%d bytes at %d: wrong bytes", r[1], r[0])
		}
	}
}

func (s *suite) stream(t *testing.T) {
	b := s.open(t)
	end := uint64(len(s.data))
	for _, r := range [][2]uint64{{0, end}, {1, 1}, {end / 2, 1 << 20}, {end - 10, 20}, {end, 1}, {0, 0}} {
		off, want, fails := r[0], min(r[1], end-r[0]), r[1] > end-r[0]
		var got bytes.Buffer
		n, err := backend.ReadTo(t.Context(), b, struct{ io.Writer }{&got}, off, r[1]) // no io.ReaderFrom
		if n != want || errors.Is(err, io.ErrUnexpectedEOF) != fails || err != nil && !fails {
			t.Errorf("%d bytes at %d: %d, %v", r[1], off, n, err)
		} else if !bytes.Equal(got.Bytes(), s.data[off:off+want]) {
			t.Errorf("%d bytes at %d: wrong bytes", r[1], off)
		}
	}
}

// A quitter takes n bytes and then wants no more.
type quitter struct{ n int }

var errEnough = fmt.Errorf("%w: that is enough", backend.ErrPermanent)

func (q *quitter) Write(p []byte) (int, error) {
	took := min(q.n, len(p))
	if q.n -= took; took < len(p) {
		return took, errEnough
	}
	return took, nil
}

func (s *suite) stop(t *testing.T) {
	b := s.open(t)
	for _, take := range []int{0, 1000, 2 << 20} {
		if n, err := backend.ReadTo(t.Context(), b, &quitter{take}, 0, uint64(len(s.data))); n != uint64(take) || !errors.Is(err, errEnough) {
			t.Errorf("a writer that takes %d: %d, %v", take, n, err)
		}
	}
}

func (s *suite) end(t *testing.T) {
	b := s.open(t)
	end := uint64(len(s.data))
	for _, r := range [][2]uint64{{end - 10, 20}, {end, 1}, {end + 4096, 10}, {math.MaxInt64, 4}, {math.MaxUint64, 4}} {
		want := 0
		if r[0] < end {
			want = int(end - r[0])
		}
		p := make([]byte, r[1])
		n, err := b.ReadAt(t.Context(), p, r[0])
		if n != want || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes at %d: %d, %v; want %d and %v", r[1], r[0], n, err, want, io.ErrUnexpectedEOF)
			continue
		}
		if want > 0 && !bytes.Equal(p[:n], s.data[r[0]:]) {
			t.Errorf("%d bytes at %d: wrong bytes", r[1], r[0])
		}
	}
}

func (s *suite) size(t *testing.T) {
	if n, err := s.open(t).Size(t.Context()); err != nil || n != uint64(len(s.data)) {
		t.Errorf("got %d, %v, want %d", n, err, len(s.data))
	}
}

func (s *suite) unknown(t *testing.T) {
	b, err := s.o.Open(t.Context(), "0000000000000000000000000000000000000000000000000000000000000000")
	if err == nil {
		defer b.Close()
		_, err = b.ReadAt(t.Context(), make([]byte, 1), 0)
	}
	if !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("got %v, want class %v", err, backend.ErrNotFound)
	}
}

func (s *suite) parallel(t *testing.T) {
	b := s.open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			off := uint64(i) * 100_003
			p := make([]byte, 100_003)
			if _, err := b.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, s.data[off:][:len(p)]) {
				t.Errorf("reader %d: %v, or wrong bytes", i, err)
			}
		})
	}
	wg.Wait()
}

func (s *suite) context(t *testing.T) {
	b := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := b.ReadAt(ctx, make([]byte, 16), 0); err == nil || n == 16 {
		t.Errorf("got %d, %v", n, err)
	}
}

func (s *suite) closed(t *testing.T) {
	b, err := s.o.Open(t.Context(), s.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(t.Context(), make([]byte, 16), 0); err == nil {
		t.Error("read after Close")
	}
}
