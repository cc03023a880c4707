package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"vrafs/backend"
)

func TestMemoryConforms(t *testing.T) {
	Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener { return Memory(blobs) })
}

func TestFaultyWithoutFaultsConforms(t *testing.T) {
	Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
		return Faulty(Memory(blobs), func(Read) Fault { return Fault{} })
	})
}

func TestFaultyDoesWhatItIsTold(t *testing.T) {
	data := bytes.Repeat([]byte("abcd"), 1024)
	var next Fault
	b, err := Faulty(Memory{"id": data}, func(r Read) Fault {
		if r.ID != "id" || r.Off != 4 || r.Len != 8 {
			t.Errorf("asked for %+v", r)
		}
		return next
	}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no network")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		fault Fault
		n     int
		err   error
		same  bool
	}{
		{"error", t.Context(), Fault{Err: failed}, 0, failed, false},
		{"short", t.Context(), Fault{Short: 3}, 5, io.ErrUnexpectedEOF, true},
		{"wrong", t.Context(), Fault{Flip: true}, 8, nil, false},
		{"stall", ended, Fault{Wait: make(chan struct{})}, 0, context.Canceled, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next = tt.fault
			p := make([]byte, 8)
			n, err := b.ReadAt(tt.ctx, p, 4)
			if n != tt.n || !errors.Is(err, tt.err) {
				t.Errorf("got %d, %v, want %d, %v", n, err, tt.n, tt.err)
			}
			if same := n > 0 && bytes.Equal(p[:n], data[4:4+n]); same != tt.same {
				t.Errorf("bytes equal: %v", same)
			}
		})
	}
}
