package registry

import (
	"context"
	"net/http"
	"net/url"

	"vrafs/internal/httprange"
)

// url is where the registry has a blob.
func (r *Registry) url(id string) *url.URL {
	scheme := r.opt.Scheme
	if r.plain.Load() {
		scheme = "http"
	}
	return &url.URL{Scheme: scheme, Host: r.opt.Host, Path: "/v2/" + r.opt.Repo + "/blobs/sha256:" + id}
}

// get sends one request to the registry. With skip_verify it falls back to plain
// HTTP, and stays with it as long as that is what the registry speaks.
func (r *Registry) get(ctx context.Context, id, header string, d *httprange.Dest, off uint64) (httprange.Reply, error) {
	u := r.url(id)
	rep, err := r.client.Range(ctx, u, header, d, off)
	if learned := u.Scheme != r.opt.Scheme; learned {
		if ctx.Err() != nil || speaksPlain(u, &rep) {
			return rep, err
		}
		r.plain.Store(false)
		if rep.Status == 0 {
			return rep, err
		}
		u.Scheme = r.opt.Scheme
		rep, err = r.client.Range(ctx, u, header, d, off)
	}
	if u.Scheme != "https" || !r.opt.HTTP.SkipVerify || !httprange.PlainText(err) {
		return rep, err
	}
	u.Scheme = "http"
	again, errAgain := r.client.Range(ctx, u, header, d, off)
	if !speaksPlain(u, &again) {
		return rep, err
	}
	// Trouble may be that of whatever stands before the registry, or in its place.
	r.plain.Store(again.Status < 500)
	return again, errAgain
}

// speaksPlain reports whether rep is what a server of plain HTTP at u says. One of
// https answers 400 to those who come without TLS, or sends them to its own address.
func speaksPlain(u *url.URL, rep *httprange.Reply) bool {
	if rep.Status == 0 || rep.Status == http.StatusBadRequest {
		return false
	}
	to, err := u.Parse(rep.Header.Get("Location"))
	return !rep.Redirect() || err != nil || to.Scheme != "https" || to.Hostname() != u.Hostname()
}
