package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"vrafs/backend"
	"vrafs/blobcache"
)

// A cause is why a back-end request failed, for counting.
type cause uint8

const (
	causeNotFound  cause = iota // the blob isn't there
	causeDenied                 // credentials are wrong or missing
	causeThrottled              // the server asks for fewer requests
	causeServer                 // the server's own trouble
	causeTimeout                // no answer in time
	causeCanceled               // nobody waits for it any more
	causeShort                  // the blob is shorter than the image says
	causeWrong                  // the data are not what the image says
	causeOther                  // the network, a certificate, a disk, ...
	numCauses
)

func (c cause) String() string {
	return [...]string{"not_found", "denied", "throttled", "server", "timeout", "canceled", "short", "wrong", "other"}[c]
}

// causeOf classifies an error of a back end.
func causeOf(err error) cause {
	if e, ok := errors.AsType[*backend.Error](err); ok {
		switch {
		case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
			return causeDenied
		case e.Status == http.StatusTooManyRequests:
			return causeThrottled
		case e.Status >= 500:
			return causeServer
		}
	}
	switch {
	case errors.Is(err, backend.ErrNotFound):
		return causeNotFound
	case timedOut(err):
		return causeTimeout
	case errors.Is(err, context.Canceled):
		return causeCanceled
	case errors.Is(err, io.ErrUnexpectedEOF):
		return causeShort
	case errors.Is(err, blobcache.ErrDigest):
		return causeWrong
	}
	return causeOther
}

// timedOut reports whether err is a timeout in the way of package net: its own, those of
// contexts, TLS, the kernel, and backend.Timeout.
func timedOut(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout()
}

// causes count failures by cause.
type causes [numCauses]atomic.Uint64

func (c *causes) add(err error) { c[causeOf(err)].Add(1) }

// families adds a sample for each cause, also for those that are at zero: a graph
// then shows the first failure as a step.
func (c *causes) families(s *familySet, label ...string) {
	for i := range c {
		s.counter("vrafs_backend_errors_total", "Requests to the back end that failed.", c[i].Load(), append(label[:len(label):len(label)], "cause", cause(i).String())...)
	}
}
