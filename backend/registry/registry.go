// Package registry reads blobs from OCI distribution servers.
//
//	read --> cached redirect? --yes--> storage --refusal--> forget it, ask the registry
//	              | no
//	              v
//	         registry --401--> challenge --> Basic, or a token from its realm --> registry
//	              | 3xx                                                       |
//	              v                                                          v
//	         storage, without Authorization                                bytes
//
// First requests wait until one of them has had an answer, and only one of those
// that are refused asks for a token. A token is renewed in the background by the
// first read near its end; reads go on with the old one. Credentials are asked for
// anew whenever they matter, so that changed ones count at the next read.
//
// Trust: none in servers. Credentials go to the registry and to the realm that it
// names, not to where it redirects, and never from https to plain HTTP unless
// Options say so; no error shows them, nor the query of an address. Bytes are the
// caller's to verify.
//
// Concurrency: everything may be called from any goroutine. Close waits for
// the renewal in flight.
//
// Source: OCI distribution 1.1; the token specification of CNCF Distribution;
// RFC 9110, section 11; nydusd 3.4 and 4.5.
package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"vrafs/backend"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are and who asks for them.
type Options struct {
	HTTP   httprange.Options
	Scheme string // "http" or "https"
	Host   string // name[:port]
	Repo   string // namespace/name
	// Credentials gives base64 of user:password, or nothing for an anonymous
	// reader. It is called at every request and may change its answer; nil is nothing.
	Credentials func() string
	// Helper gives other credentials, in the same form, than those that were refused, and
	// when they end. It is asked when the registry or its token server refuses what
	// Credentials says, and near the end of what it gave. nil: there is none.
	Helper func(ctx context.Context, refused string) (credentials string, end time.Time, err error)
	// Token gives a bearer token to be sent as is, instead of all else; or an empty one. It
	// is asked for at every request, since it may change; nil gives none.
	Token func() string
	// BlobURLScheme and BlobRedirectedHost replace these parts of the addresses
	// that the registry redirects to, unless empty.
	BlobURLScheme, BlobRedirectedHost string
	// Origin is the registry that this one mirrors, if that alone is to be shown
	// credentials: this one gets what the origin has granted, or nothing where that would
	// go from https to plain HTTP over a network, and its refusals are not answered.
	Origin *Registry
}

var errDigest = errors.New("not the sha256 digest that registries name blobs by")

// A Registry is one repository of a registry. It is a backend.Opener.
type Registry struct {
	opt    Options
	client *httprange.Client
	auth   auth
	first  gate
	plain  atomic.Bool // it speaks plain HTTP where https was configured
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*Registry, error) {
	if (opt.Scheme != "http" && opt.Scheme != "https") || opt.Host == "" || opt.Repo == "" {
		return nil, fmt.Errorf("registry: scheme %q, host %q, repo %q: not an address", opt.Scheme, opt.Host, opt.Repo)
	}
	client, err := httprange.New(o, opt.HTTP)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", opt.Host, err)
	}
	r := &Registry{opt: opt, client: client, first: newGate()}
	r.auth.init(client, &r.opt)
	return r, nil
}

// Close ends a renewal in flight and drops idle connections. Blobs are closed by
// their owners.
func (r *Registry) Close() {
	r.auth.close()
	r.client.Close()
}

// Open implements backend.Opener. It asks nobody.
func (r *Registry) Open(_ context.Context, id string) (backend.Blob, error) {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 32 || strings.ToLower(id) != id {
		return nil, &backend.Error{Blob: fmt.Sprintf("%.80q", id), Host: r.opt.Host, Class: backend.ErrNotFound,
			Cause: errDigest, Remedy: "keep it in a directory and use localfs"}
	}
	b := &blob{r: r, id: id}
	return httprange.NewBlob(id, r.opt.Host, b.read), nil
}

// ask reads a range of a blob from the registry itself and shows who asks, if it
// must. The reply may be a redirect.
func (r *Registry) ask(ctx context.Context, id string, d *httprange.Dest, off uint64) (httprange.Reply, error) {
	leave, err := r.first.enter(ctx)
	if err != nil {
		return httprange.Reply{}, err
	}
	defer leave()
	g := r.grant()
	rep, err := r.get(ctx, id, g.header, d, off)
	if rep.Status == http.StatusUnauthorized && r.opt.Origin == nil {
		if g, err = r.auth.answer(ctx, g, rep.Header.Values("WWW-Authenticate")); err != nil {
			return rep, err
		}
		rep, err = r.get(ctx, id, g.header, d, off)
	}
	if denied(rep.Status) && r.opt.Origin == nil && r.auth.replaceable(g) {
		if g, err = r.auth.replace(ctx, g); err != nil {
			return rep, err
		}
		rep, err = r.get(ctx, id, g.header, d, off)
	}
	if rep.Status == http.StatusUnauthorized {
		r.auth.forget(g)
	}
	if rep.Status != 0 && rep.Status < 500 {
		r.first.open()
	}
	return rep, r.explain(rep, err)
}

// grant is what to send with a request.
func (r *Registry) grant() *grant {
	o := r.opt.Origin
	if o == nil {
		return r.auth.current()
	}
	if o.opt.Scheme == "https" && r.opt.Scheme == "http" && !loopback(r.opt.Host) && !r.opt.HTTP.SkipVerify {
		return &grant{}
	}
	return o.auth.current()
}

// loopback reports whether a host is this one.
func loopback(host string) bool {
	u := url.URL{Host: host}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Proxied reports whether a read goes through a proxy.
func (r *Registry) Proxied(ctx context.Context) bool { return r.client.Proxied(ctx) }

// Probe reports whether the registry is alive; u is nil or an address for this.
func (r *Registry) Probe(ctx context.Context, u *url.URL) error {
	if u == nil {
		u = &url.URL{Scheme: r.opt.Scheme, Host: r.opt.Host, Path: "/v2/"}
	}
	return r.client.Probe(ctx, u)
}

func denied(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// explain adds what to do about a registry that doesn't let us in, unless that is
// known.
func (r *Registry) explain(rep httprange.Reply, err error) error {
	e := (*backend.Error)(nil)
	if denied(rep.Status) && errors.As(err, &e) && e.Remedy == "" {
		return &backend.Error{Host: r.opt.Host, Status: rep.Status, Class: backend.ErrPermanent,
			Remedy: "configure an auth or registry_token that may pull from " + r.opt.Repo}
	}
	return err
}
