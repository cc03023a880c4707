package testfault

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// storage begins the paths that redirects lead to.
const storage = "/storage/"

// SendOn has blobs answered by redirects to storage, which is the proxy itself: by links
// that are good until Expire.
func (p *Proxy) SendOn() { p.sendOn.Store(true) }

// Expire ends every link that was given.
func (p *Proxy) Expire() { p.link.Add(1) }

// Expired gives links that have ended already.
func Expired(x *Exchange) {
	if strings.HasPrefix(x.R.URL.Path, storage) {
		x.p.Expire()
	} else {
		x.Miss()
	}
	x.Pass()
}

// follow answers a request for a blob by a redirect, and gives the request that a good
// link stands for.
func (x *Exchange) follow() *http.Request {
	path, ok := strings.CutPrefix(x.R.URL.Path, storage)
	switch link := strconv.FormatInt(x.p.link.Load(), 10); {
	case !ok && strings.Contains(x.R.URL.Path, "/blobs/"):
		query := url.Values{"signature": {link}}
		http.Redirect(x.W, x.R, "http://"+x.p.Host+storage+strings.TrimPrefix(x.R.URL.Path, "/")+"?"+query.Encode(), http.StatusTemporaryRedirect)
	case !ok:
		return x.R
	case x.R.FormValue("signature") != link:
		x.W.WriteHeader(http.StatusForbidden)
	default:
		r := x.R.Clone(x.R.Context())
		r.URL.Path, r.URL.RawQuery = "/"+path, ""
		return r
	}
	return nil
}
