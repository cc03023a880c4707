package httprange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vrafs/backend"
)

// A taker is a writer that tells what it got.
type taker struct {
	bytes.Buffer
	write func(p []byte) error // asked before each; may be nil
}

func (w *taker) Write(p []byte) (int, error) {
	if w.write != nil {
		if err := w.write(p); err != nil {
			return 0, err
		}
	}
	return w.Buffer.Write(p)
}

// An onlyWriter hides the other methods of what is in it.
type onlyWriter struct{ io.Writer }

// begun answers with the whole text, of which the rest after n bytes waits for more.
func begun(t *testing.T, n int, more <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text[:n])
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, text[n:])
	}
}

// TestBytesAreThereBeforeTheEnd: a server sends the rest only after the beginning
// arrived.
func TestBytesAreThereBeforeTheEnd(t *testing.T) {
	more := make(chan struct{})
	u := serve(t, begun(t, 5, more))
	first := true
	w := &taker{write: func([]byte) error {
		if first {
			close(more)
		}
		first = false
		return nil
	}}
	d := To(onlyWriter{w}, 16)
	if _, err := client(t, Options{}).Range(t.Context(), u, "", d, 0); err != nil || w.String() != text || d.left() != 0 {
		t.Errorf("got %q, %v", &w.Buffer, err)
	}
}

// TestAWriterThatStopsEndsTheRequest at once: nothing more is read of it.
func TestAWriterThatStopsEndsTheRequest(t *testing.T) {
	enough := fmt.Errorf("%w: enough", backend.ErrPermanent)
	ended := make(chan struct{})
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		begun(t, 5, nil)(w, r)
	})
	w := &taker{write: func([]byte) error { return enough }}
	if _, err := client(t, Options{}).Range(t.Context(), u, "", To(onlyWriter{w}, 16), 0); err != enough {
		t.Errorf("got %v, want %v", err, enough)
	}
	<-ended
}

func TestStreamsHaveToKeepPace(t *testing.T) {
	const limit = 20 * time.Millisecond
	read := func(t *testing.T, h http.HandlerFunc, w io.Writer) (*Dest, error) {
		d := To(w, 16)
		_, err := client(t, Options{Timeout: limit}).Range(t.Context(), serve(t, h), "", d, 0)
		return d, err
	}
	t.Run("a stall ends the request", func(t *testing.T) {
		for _, n := range []int{0, 5} {
			if d, err := read(t, begun(t, n, nil), &taker{}); !errors.Is(err, errTimeout) || d.done != uint64(n) {
				t.Errorf("after %d bytes: got %d, %v", n, d.done, err)
			}
		}
	})
	t.Run("so do drops", func(t *testing.T) {
		dribble := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "16")
			for _, c := range text {
				_, _ = io.WriteString(w, string(c))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(limit / 4):
				case <-r.Context().Done():
					return
				}
			}
		}
		if _, err := read(t, dribble, onlyWriter{&taker{}}); !errors.Is(err, errTimeout) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a slow writer is not the server's fault", func(t *testing.T) {
		more := make(chan struct{})
		slow := &taker{write: func([]byte) error { <-time.After(2 * limit); return nil }}
		close(more)
		if d, err := read(t, begun(t, 5, more), onlyWriter{slow}); err != nil || d.done != 16 {
			t.Errorf("got %d, %v", d.done, err)
		}
	})
}

// TestTheOriginGivesTheRest of what a proxy began to give: no byte comes twice.
func TestTheOriginGivesTheRest(t *testing.T) {
	for _, n := range []int{0, 2, 3} {
		r := newRoute(t, answer(206, "bytes 8-11/16", 4, "89a"[:n]), nil)
		w := &taker{}
		rep, err := r.c.Range(t.Context(), address(t, r.origin.URL+"/b"), "", To(w, 4), 8)
		if err != nil || w.String() != "89ab" || rep.N != 4-n {
			t.Errorf("%d bytes from the proxy: got %q, %d of them from the origin, %v", n, &w.Buffer, rep.N, err)
		}
	}
}

// TestDestsTakeWhatIsKnownToBeWrongBack where that can be done.
func TestDestsTakeWhatIsKnownToBeWrongBack(t *testing.T) {
	body := func() io.Reader { return strings.NewReader("abcde") }
	into, to := Into(make([]byte, 4)), To(&taker{}, 4)
	if n, err := into.fill(body(), 4, false); n != 0 || into.done != 0 || err != errLong {
		t.Errorf("memory: %d, %d, %v", n, into.done, err)
	}
	if n, err := to.fill(body(), 4, false); n != 4 || to.done != 4 || err != nil {
		t.Errorf("writer: %d, %d, %v", n, to.done, err)
	}
}
