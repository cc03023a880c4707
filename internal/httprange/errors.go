package httprange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"vrafs/backend"
)

// maxCause bounds what an error tells of its cause, in bytes.
const maxCause = 200

// failure makes an error of what went wrong with a request to host. A context of
// the caller's that ended is returned as its cause.
func failure(ctx context.Context, host string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTimeout) {
		return cause
	} else if cause != nil {
		err = cause
	}
	// The address in a url.Error may be signed.
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		err = ue.Err
	}
	e := &backend.Error{Host: host, Cause: plain{err}, Remedy: "check the host and the network"}
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		e.Class, e.Remedy = backend.ErrPermanent, "name its authority in ca_cert_files"
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Class, e.Remedy = backend.ErrPermanent, "set scheme to http if plain HTTP is meant"
	case errors.Is(err, errNoRanges):
		e.Class, e.Remedy = backend.ErrPermanent, "put the blobs on a server that does"
	case errors.Is(err, errTimeout):
		e.Remedy = "raise timeout if the link is slow"
	case errors.Is(err, errRange), errors.Is(err, errShort), errors.Is(err, errLong):
		e.Remedy = "look for a proxy on the way that changes answers"
	}
	return e
}

// plain shows an error as one bounded line of printable text.
type plain struct{ error }

func (p plain) Unwrap() error { return p.error }

func (p plain) Error() string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, p.error.Error())
	return strings.ToValidUTF8(text[:min(len(text), maxCause)], "")
}

// statusError makes an error of an answer that is no data.
func statusError(host string, r *Reply) error {
	e := &backend.Error{Host: host, Status: r.Status, After: retryAfter(r.Header)}
	switch s := r.Status; {
	case s == http.StatusNotFound, s == http.StatusGone:
		e.Class, e.Remedy = backend.ErrNotFound, "check that it was pushed and not deleted"
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly, s >= 500,
		s == http.StatusRequestedRangeNotSatisfiable:
		e.Remedy = "the server is in trouble; it is asked again later"
	case r.Header.Get(headerErrorType) == "proxy":
		e.Class, e.Remedy = backend.ErrPermanent, "this is the proxy's answer: check its rules"
	default:
		e.Class = backend.ErrPermanent
	}
	return e
}

// reason is why a request failed, without the host's name and a remedy.
func reason(err error) error {
	e := (*backend.Error)(nil)
	switch {
	case !errors.As(err, &e):
		return err
	case e.Status >= http.StatusMultipleChoices:
		return statusText(e.Status)
	}
	return e.Cause
}

// A statusText tells of an answer.
type statusText int

func (s statusText) Error() string {
	return strings.TrimSpace(fmt.Sprintf("answer %d %s", int(s), http.StatusText(int(s))))
}

// maxAfter bounds what a server can ask for.
const maxAfter = 10 * time.Minute

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxAfter)
}

// PlainText reports whether err has the look of an https request to a server that
// speaks plain HTTP, or of nobody listening for TLS.
func PlainText(err error) bool {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.Is(err, syscall.ECONNREFUSED)
}
