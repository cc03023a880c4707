package httprange

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"vrafs/backend"
	"vrafs/internal/opener"
)

// A Store is blobs that lie under one address. It is a backend.Opener.
type Store struct {
	Client *Client
	// Base is the address of all of them; a blob's id is added to its path.
	Base url.URL
	// Keys are those that requests are signed with, asked for at each; nil or empty ones
	// sign nothing.
	Keys func() Keys
	// Sign adds to a request's header what shows who asks.
	Sign func(k Keys, u *url.URL, h http.Header)
	// Denied says what to do where the store doesn't let us in.
	Denied string
}

// Keys show who asks. Token belongs to keys that end with a session.
type Keys struct{ ID, Secret, Token string }

// keys are those of now.
func (s *Store) keys() Keys {
	if s.Keys == nil {
		return Keys{}
	}
	return s.Keys()
}

// Open implements backend.Opener. It asks nobody.
func (s *Store) Open(_ context.Context, id string) (backend.Blob, error) {
	if err := opener.Name(id); err != nil {
		return nil, &backend.Error{Host: s.Base.Host, Cause: err, Class: backend.ErrPermanent}
	}
	u := s.Base
	u.Path += id
	u.RawPath = escape(u.Path)
	return NewBlob(id, u.Host, func(ctx context.Context, d *Dest, off uint64) (Reply, error) {
		k := s.keys()
		rep, err := s.read(ctx, k, &u, d, off)
		// Keys that changed under way may have ended before they were looked at.
		if now := s.keys(); s.refused(&rep) && now != k {
			rep, err = s.read(ctx, now, &u, d, off)
		}
		return rep, s.explain(&rep, err)
	}), nil
}

// read is one request.
func (s *Store) read(ctx context.Context, k Keys, u *url.URL, d *Dest, off uint64) (Reply, error) {
	h := http.Header{}
	if k.ID != "" || k.Secret != "" {
		s.Sign(k, u, h)
	}
	return s.Client.RangeWith(ctx, u, h, d, off)
}

// refused reports whether we were not let in. Of keys whose session has ended Amazon says
// that they are a bad request.
func (s *Store) refused(rep *Reply) bool {
	return rep.Status == http.StatusUnauthorized || rep.Status == http.StatusForbidden || rep.Status == http.StatusBadRequest && s.Keys != nil
}

// Proxied reports whether a read goes through a proxy.
func (s *Store) Proxied(ctx context.Context) bool { return s.Client.Proxied(ctx) }

// Probe reports whether the server of u is alive.
func (s *Store) Probe(ctx context.Context, u *url.URL) error { return s.Client.Probe(ctx, u) }

// Close drops connections.
func (s *Store) Close() { s.Client.Close() }

// explain adds what to do about a refusal.
func (s *Store) explain(rep *Reply, err error) error {
	e := (*backend.Error)(nil)
	switch {
	case !errors.As(err, &e) || e.Remedy != "":
	case s.refused(rep):
		e.Remedy = s.Denied
	case rep.Redirect():
		e.Remedy = "configure the address that it redirects to"
	}
	return err
}

// escape encodes a path as signatures have it: every byte but the unreserved ones
// and the slash (RFC 3986, section 2.3).
func escape(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
