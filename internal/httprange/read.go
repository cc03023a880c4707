package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"vrafs/backend"
	"vrafs/internal/hosts"
)

// A Reply is what a server said about a range.
type Reply struct {
	Status int // 0 if it said nothing
	Header http.Header
	N      int // bytes that were filled in
	// Size is that of the whole resource in bytes, if Sized.
	Size  uint64
	Sized bool
}

// Redirect reports whether the answer sends the reader elsewhere.
func (r *Reply) Redirect() bool {
	switch r.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return r.Header.Get("Location") != ""
	}
	return false
}

// Range gives d the bytes that it still wants of the resource at u; off is where its
// first byte lies. authorization is sent as is unless empty.
//
// The error is nil exactly if d has all; io.ErrUnexpectedEOF if the resource ends
// earlier, and only then; the cause of ctx if that ended; that of d's writer if it
// wants no more; otherwise a *backend.Error, with the reply beside it if there was one.
func (c *Client) Range(ctx context.Context, u *url.URL, authorization string, d *Dest, off uint64) (Reply, error) {
	h := http.Header{}
	if authorization != "" {
		h.Set("Authorization", authorization)
	}
	return c.RangeWith(ctx, u, h, d, off)
}

// RangeWith is Range with other headers, which are its own from now on.
func (c *Client) RangeWith(ctx context.Context, u *url.URL, h http.Header, d *Dest, off uint64) (Reply, error) {
	if off > math.MaxInt64-d.want {
		return Reply{}, io.ErrUnexpectedEOF
	}
	peers := backend.IsForPeers(ctx)
	if !c.proxy.serves(ctx, u) {
		if peers {
			return Reply{}, &backend.Error{Host: u.Host, Cause: errNoPeers}
		}
		return c.read(ctx, &c.direct, u, h, d, off)
	}
	rep, err := c.read(ctx, &c.proxy.way, c.proxy.address(u), c.proxy.mark(ctx, h), d, off)
	if failed := c.proxy.failed(u, &rep, err); ctx.Err() != nil || d.stopped || peers || !failed {
		return rep, err
	}
	return c.read(ctx, &c.direct, u, h, d, off)
}

// errNoPeers is the cause of a read for peers after their proxy went away.
var errNoPeers = errors.New("no proxy is used at this moment")

// Proxied reports whether a read goes through a proxy.
func (c *Client) Proxied(ctx context.Context) bool { return c.proxy.serves(ctx, nil) }

// read is Range by one of the two ways.
func (c *Client) read(ctx context.Context, w *way, u *url.URL, h http.Header, d *Dest, off uint64) (Reply, error) {
	v, err := c.peer(w, u).Enter()
	if err != nil {
		return Reply{}, err
	}
	rep, err := c.exchange(ctx, w, u, h, d, off, v.Began)
	o := outcome(ctx, rep.Status, rep.N, err)
	if d.stopped {
		o = hosts.Alive
	}
	v.Leave(o, rep.N, reason(err))
	return rep, err
}

// longAnswer is what nobody should have to wait for the end of, in bytes.
const longAnswer = 1 << 20

// exchange is one request and its answer; began is called where that is long and begins.
func (c *Client) exchange(ctx context.Context, w *way, u *url.URL, h http.Header, d *Dest, off uint64, began func()) (Reply, error) {
	off += d.done
	h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+d.left()-1))
	ctx, cancel, watch := c.deadlines(ctx, d)
	defer cancel()
	resp, err := c.send(ctx, w, http.MethodGet, u, h, nil)
	if err != nil {
		return Reply{}, err
	}
	defer drain(resp.Body)
	rep := Reply{Status: resp.StatusCode, Header: resp.Header}
	left := d.left()
	want, err := rep.judge(resp.ContentLength, left, off)
	if err == nil && want > 0 {
		if want > longAnswer {
			began()
		}
		rep.N, err = d.fill(watch(resp.Body), want, resp.StatusCode == http.StatusOK)
		if d.stopped {
			cancel() // nothing more is to come, not even to keep the connection
			return rep, err
		}
	}
	if err == nil && uint64(rep.N) < left {
		return rep, io.ErrUnexpectedEOF
	}
	switch {
	case errors.Is(err, errStatus):
		err = statusError(w.host(u), &rep)
	case err != nil:
		err = failure(ctx, w.host(u), err)
	}
	return rep, err
}

// deadlines are those of one answer for d, and what watches its body.
func (c *Client) deadlines(ctx context.Context, d *Dest) (context.Context, context.CancelFunc, func(io.Reader) io.Reader) {
	if d.w != nil {
		return paced(ctx, c.opt.Timeout)
	}
	ctx, cancel := c.bound(ctx)
	return ctx, cancel, func(body io.Reader) io.Reader { return body }
}

// outcome says what a request showed of its server; ctx is that of who reads.
func outcome(ctx context.Context, status, n int, err error) hosts.Outcome {
	switch {
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return hosts.Alive
	case ctx.Err() != nil:
		return hosts.Unknown
	case status >= http.StatusInternalServerError:
		return hosts.Failed
	case status >= http.StatusMultipleChoices, errors.Is(err, backend.ErrPermanent):
		return hosts.Alive
	case status == 0, n == 0 && errors.Is(err, errTimeout):
		return hosts.Failed
	}
	return hosts.Unknown // some of the answer came
}

var (
	errRange = errors.New("the answer is another range than was asked for")
	errShort = errors.New("the answer was cut short")
	errLong  = errors.New("the answer is longer than it says")
	// errStatus makes Range report the status.
	errStatus = errors.New("status")
	// errNoRanges: what is asked for can't be had, however often.
	errNoRanges = errors.New("the server does not serve ranges")
)

// judge says how many of n bytes from off the answer's body must begin with. It
// notes the size of the resource; length is that of the body, or -1.
func (r *Reply) judge(length int64, n, off uint64) (want uint64, err error) {
	switch r.Status {
	case http.StatusOK:
		if length >= 0 {
			r.Size, r.Sized = uint64(length), true
		}
		if r.Sized && off > 0 && off >= r.Size {
			return 0, nil // past the end there is no range to serve
		}
		if off > 0 {
			return 0, errNoRanges
		}
		if r.Sized {
			n = min(n, r.Size)
		}
		return n, nil
	case http.StatusRequestedRangeNotSatisfiable:
		cr, ok := parseContentRange(r.Header.Get("Content-Range"))
		if ok && cr.sized && cr.size > off {
			return 0, errStatus // it contradicts itself
		}
		r.Size, r.Sized = cr.size, ok && cr.sized
		return 0, nil
	case http.StatusPartialContent:
		return r.partial(length, n, off)
	}
	return 0, errStatus
}

// partial is judge for an answer that is a range.
func (r *Reply) partial(length int64, n, off uint64) (want uint64, err error) {
	cr, ok := parseContentRange(r.Header.Get("Content-Range"))
	if !ok || cr.empty || cr.first != off {
		return 0, errRange
	}
	got := cr.last - cr.first + 1
	if length >= 0 && uint64(length) != got || got > n {
		return 0, errRange
	}
	r.Size, r.Sized = cr.size, cr.sized
	if got < n && (!cr.sized || cr.last+1 != cr.size) {
		return 0, errShort
	}
	return got, nil
}

// A contentRange is the value of a header of that name (RFC 9110, section 14.4).
type contentRange struct {
	first, last uint64 // inclusive, unless empty
	empty       bool   // "*" instead of a range
	size        uint64
	sized       bool // false: "*" instead of a size
}

func parseContentRange(s string) (c contentRange, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, size, _ := strings.Cut(rest, "/")
	if !strings.EqualFold(unit, "bytes") {
		return c, false
	}
	if size != "*" {
		if c.size, c.sized = number(size); !c.sized {
			return c, false
		}
	}
	if c.empty = span == "*"; c.empty {
		return c, c.sized
	}
	first, last, _ := strings.Cut(span, "-")
	a, okA := number(first)
	b, okB := number(last)
	c.first, c.last = a, b
	return c, okA && okB && a <= b && (!c.sized || b < c.size)
}

// number reads decimal digits and nothing else, up to the largest file size.
func number(s string) (uint64, bool) {
	if strings.HasPrefix(s, "+") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}
