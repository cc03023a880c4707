package testregistry

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// Proxy stands before a server that speaks plain HTTP. meddle sees each request
// first and reports whether it has answered it. The result is name and port.
func Proxy(t testing.TB, target string, meddle func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.SetXForwarded() // so that a registry sends its clients back here
	}}
	tr := &http.Transport{DisableCompression: true}
	p.Transport, p.ErrorLog = tr, log.New(io.Discard, "", 0)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !meddle(w, r) {
			p.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		tr.CloseIdleConnections()
	})
	return strings.TrimPrefix(s.URL, "http://")
}
