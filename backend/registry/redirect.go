package registry

import (
	"context"
	"errors"
	"net/url"

	"vrafs/backend"
	"vrafs/internal/httprange"
)

// maxHops bounds the redirects of one request, the registry's own included.
const maxHops = 5

var (
	errLocation  = errors.New("redirects to something that is no web address")
	errDowngrade = errors.New("redirects from https to plain HTTP")
	errHops      = errors.New("redirects again and again")
)

// redirect is the address that a server at from sends us to.
func (r *Registry) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	if err != nil || !httprange.Reachable(to) {
		return nil, &backend.Error{Host: from.Host, Cause: errLocation, Class: backend.ErrPermanent}
	}
	if s := r.opt.BlobURLScheme; s != "" {
		to.Scheme = s
	} else if from.Scheme == "https" && to.Scheme == "http" {
		return nil, &backend.Error{Host: from.Host, Cause: errDowngrade, Class: backend.ErrPermanent,
			Remedy: "set blob_url_scheme to http if that is meant, or to https"}
	}
	if h := r.opt.BlobRedirectedHost; h != "" {
		to.Host = h
	}
	return to, nil
}

// follow reads a range from where the registry sent us, without its credentials,
// and from where that sends us. It returns the last address.
func (r *Registry) follow(ctx context.Context, u *url.URL, d *httprange.Dest, off uint64) (*url.URL, httprange.Reply, error) {
	for range maxHops - 1 {
		rep, err := r.client.Range(ctx, u, "", d, off)
		if !rep.Redirect() {
			return u, rep, err
		}
		if u, err = r.redirect(u, rep.Header.Get("Location")); err != nil {
			return nil, httprange.Reply{}, err
		}
	}
	return nil, httprange.Reply{}, &backend.Error{Host: u.Host, Cause: errHops, Class: backend.ErrPermanent}
}
