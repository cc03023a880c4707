package httprange

import (
	"context"
	"errors"
	"io"
	"time"

	"vrafs/backend"
)

// A Dest is where the bytes of a range go. It takes them in order, perhaps from
// several answers one after the other.
type Dest struct {
	p    []byte // or
	w    io.Writer
	want uint64
	done uint64
	// stopped: w wants no more.
	stopped bool
}

// Into fills p, which isn't empty. A whole answer has to come within Options.Timeout.
func Into(p []byte) *Dest { return &Dest{p: p, want: uint64(len(p))} }

// To writes n bytes, more than none, to w as backend.Streamer says. Every paceBytes of
// an answer, and its beginning, have to come within Options.Timeout.
func To(w io.Writer, n uint64) *Dest { return &Dest{w: w, want: n} }

// left is how many bytes are still to come.
func (d *Dest) left() uint64 { return d.want - d.done }

// fill takes exactly n bytes from body; more may follow only if that is said. What is
// then known to be wrong is taken back, where it can be.
func (d *Dest) fill(body io.Reader, n uint64, more bool) (got int, err error) {
	begin := d.done
	switch from, ok := d.w.(io.ReaderFrom); {
	case d.w == nil:
		got, err = io.ReadFull(body, d.p[begin:begin+n])
		d.done += uint64(got)
	case ok:
		var took int64
		took, err = from.ReadFrom(io.LimitReader(body, int64(n)))
		d.done += uint64(took)
	default:
		var took int64
		took, err = io.CopyN(d.w, body, int64(n))
		d.done += uint64(took)
	}
	got = int(d.done - begin)
	d.stopped = d.w != nil && errors.Is(err, backend.ErrPermanent) // servers give no such error here
	switch short := uint64(got) < n; {
	case short && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return got, errShort
	case err != nil || more || d.w != nil:
		return got, err
	}
	var one [1]byte
	if k, _ := body.Read(one[:]); k > 0 {
		d.done = begin
		return 0, errLong
	}
	return got, nil
}

// paceBytes is what a server may take Options.Timeout for where bytes are handed over
// while they come: what it takes long for has no bound there.
const paceBytes = 64 << 10

// A pace ends a request whose bytes come too slowly. Time that passes between two calls
// of Read doesn't count.
type pace struct {
	body  io.Reader
	timer *time.Timer
	limit time.Duration
	left  time.Duration // for the next paceBytes
	got   int           // of them
}

// paced is a context for one answer, and what is to be put around its body.
func paced(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc, func(io.Reader) io.Reader) {
	ctx, cancel := context.WithCancelCause(ctx)
	if limit <= 0 {
		return ctx, func() { cancel(nil) }, func(body io.Reader) io.Reader { return body }
	}
	p := &pace{limit: limit, left: limit, timer: time.AfterFunc(limit, func() { cancel(errTimeout) })}
	return ctx, func() { p.timer.Stop(); cancel(nil) }, func(body io.Reader) io.Reader {
		p.timer.Stop()
		p.body = body
		return p
	}
}

func (p *pace) Read(b []byte) (int, error) {
	begin := time.Now()
	p.timer.Reset(p.left)
	n, err := p.body.Read(b)
	p.timer.Stop()
	if p.got += n; p.got >= paceBytes {
		p.got, p.left = 0, p.limit
	} else {
		p.left = max(0, p.left-time.Since(begin))
	}
	return n, err
}
