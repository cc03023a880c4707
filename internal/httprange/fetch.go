package httprange

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// A Form is a request for a small answer. With Post it goes as a body, otherwise
// as the query.
type Form struct {
	URL           *url.URL
	Values        url.Values
	Post          bool
	Authorization string // unless empty
}

var errLarge = errors.New("the answer is larger than such an answer can be")

// Fetch sends a form and gives the body of an answer with status 200, at most
// limit bytes. Errors are those of Range; status is 0 if there was no answer.
func (c *Client) Fetch(ctx context.Context, f Form, limit int) (body []byte, status int, err error) {
	v, err := c.peer(&c.direct, f.URL).Enter()
	if err != nil {
		return nil, 0, err
	}
	body, status, err = c.fetch(ctx, f, limit)
	v.Leave(outcome(ctx, status, len(body), err), len(body), reason(err))
	return body, status, err
}

// fetch is one request and its answer.
func (c *Client) fetch(ctx context.Context, f Form, limit int) (body []byte, status int, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	h, method, u := http.Header{}, http.MethodGet, *f.URL
	var in io.Reader
	if f.Post {
		method, in = http.MethodPost, strings.NewReader(f.Values.Encode())
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		q := u.Query()
		for k, v := range f.Values {
			q[k] = v
		}
		u.RawQuery = q.Encode()
	}
	if f.Authorization != "" {
		h.Set("Authorization", f.Authorization)
	}
	resp, err := c.send(ctx, &c.direct, method, &u, h, in)
	if err != nil {
		return nil, 0, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode, statusError(u.Host, &Reply{Status: resp.StatusCode, Header: resp.Header})
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err == nil && len(body) > limit {
		err = errLarge
	}
	if err != nil {
		return nil, resp.StatusCode, failure(ctx, u.Host, err)
	}
	return body, resp.StatusCode, nil
}
