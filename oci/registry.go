package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A registry is one repository, by the distribution API.
type registry struct {
	repo   name.Repository
	base   *url.URL // of /v2/REPO/
	client *http.Client
	conns  *http.Transport
	access *Access
	cred   Credential
	scheme atomic.Pointer[string] // that manifests came by
}

// pullScope and pushScope are what tokens are asked for.
const (
	pullScope = "pull"
	pushScope = "push,pull"
)

func openRegistry(ctx context.Context, ref Ref, a *Access) (*registry, error) {
	return dialRegistry(ctx, ref, a, pullScope)
}

// dialRegistry finds out how the registry wants to be spoken to. scopes are those of
// other repositories whose blobs are to be mounted.
func dialRegistry(ctx context.Context, ref Ref, a *Access, scope string, scopes ...string) (*registry, error) {
	repo, err := a.registryName(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRef, err)
	}
	conns, err := a.transport(ref.Registry)
	if err != nil {
		return nil, err
	}
	cred, err := a.Credential(ref)
	if err != nil {
		return nil, err
	}
	var rt http.RoundTripper = greeter{conns}
	if a.PlainHTTP {
		rt = plainOnly{rt}
	}
	agent := a.UserAgent
	if agent == "" {
		agent = "vrafs"
	}
	rt = transport.NewUserAgent(rt, agent)
	scopes = append([]string{repo.Scope(scope)}, scopes...)
	auth, err := transport.NewWithContext(ctx, repo.Registry, cred.authenticator(), rt, scopes)
	if err != nil {
		conns.CloseIdleConnections()
		return nil, fmt.Errorf("registry %s: %w", ref.Registry, adviseRegistry(err, cred))
	}
	r := &registry{repo: repo, conns: conns, access: a, cred: cred}
	// The transport exchanges the scheme for the one that the registry answered with.
	r.base = &url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/"}
	r.client = &http.Client{Transport: auth}
	return r, nil
}

func (r *registry) close() error {
	r.conns.CloseIdleConnections()
	return nil
}

// Answers that are worth asking again for, and how often.
const attempts = 5

// retryable reports whether the same request may get a better answer later.
func retryable(err error) bool {
	var te *transport.Error
	if errors.As(err, &te) {
		switch te.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// pause waits before attempt n, longer each time.
func pause(ctx context.Context, n int) error {
	t := time.NewTimer(time.Duration(100<<n) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A call is one request without a body that streams.
type call struct {
	method string
	url    *url.URL
	header map[string]string
	body   string
	want   []int // statuses that are an answer
}

// do sends c until there is an answer that is no hiccup. The caller closes the body.
func (r *registry) do(ctx context.Context, c call) (resp *http.Response, err error) {
	err = again(ctx, func() error {
		resp, err = r.once(ctx, c)
		return err
	})
	return resp, err
}

// document is do with the whole answer, of which one byte more than is allowed is read.
func (r *registry) document(ctx context.Context, c call) (resp *http.Response, raw []byte, err error) {
	err = again(ctx, func() error {
		if resp, err = r.once(ctx, c); err != nil {
			return err
		}
		defer resp.Body.Close()
		if raw, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1)); err != nil {
			return fmt.Errorf("answer of %s: %w", c.url.Path, err)
		}
		return nil
	})
	return resp, raw, err
}

// again tries until there is no error, or one that trying again does not change.
func again(ctx context.Context, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || n+1 == attempts || !retryable(err) || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

func (r *registry) once(ctx context.Context, c call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), strings.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, redacted(err)
	}
	if err := transport.CheckError(resp, c.want...); err != nil {
		resp.Body.Close()
		return nil, classify(err)
	}
	return resp, nil
}

// errNoToken stands for an error of the transport that shows all of the answer.
var errNoToken = errors.New("the token server's answer has no token")

// redacted drops what an address carries behind its path, signatures of storage services
// among it, and what a token server answered.
func redacted(err error) error {
	if strings.Contains(err.Error(), "no token in bearer response") {
		return errNoToken
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		if u, perr := url.Parse(ue.URL); perr == nil {
			u.RawQuery, u.User = "", nil
			return &url.Error{Op: ue.Op, URL: u.String(), Err: ue.Err}
		}
	}
	return err
}

// maxAnswer is how many bytes of a registry's own words an error repeats.
const maxAnswer = 1 << 10

// An answerError is an answer of a registry that is an error: its status and its words.
type answerError struct{ te *transport.Error }

// Error is bounded, whatever the registry says.
func (e *answerError) Error() string {
	text := e.te.Error()
	if len(text) > maxAnswer {
		text = strings.ToValidUTF8(text[:maxAnswer], "") + "..."
	}
	if len(e.te.Errors) == 0 {
		return text // which has the status
	}
	return fmt.Sprintf("status %d: %s", e.te.StatusCode, text)
}

// Unwrap gives the answer itself.
func (e *answerError) Unwrap() error { return e.te }

// classify gives an answer of the registry its class.
func classify(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	err = &answerError{te}
	switch te.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return err
}

// adviseRegistry says more about a failed first contact.
func adviseRegistry(err error, c Credential) error {
	err = classify(redacted(err))
	if errors.Is(err, ErrDenied) && c == (Credential{}) {
		return fmt.Errorf("no credentials were found: %w", err)
	}
	return err
}

// acceptManifests is every kind of manifest that can be read.
var acceptManifests = strings.Join([]string{MediaTypeManifest, MediaTypeIndex, MediaTypeDockerManifest, MediaTypeDockerList}, ", ")

func (r *registry) at(elem ...string) *url.URL { return r.base.JoinPath(elem...) }

func (r *registry) manifest(ctx context.Context, ref Ref) ([]byte, Descriptor, error) {
	id := ref.Tag
	if ref.Digest != "" {
		id = ref.Digest.String()
	}
	if id == "" {
		id = name.DefaultTag
	}
	resp, raw, err := r.document(ctx, call{method: http.MethodGet, url: r.at("manifests", id), header: map[string]string{"Accept": acceptManifests}, want: []int{200}})
	if err != nil {
		return nil, Descriptor{}, err
	}
	r.scheme.Store(&resp.Request.URL.Scheme)
	d := Descriptor{MediaType: resp.Header.Get("Content-Type")}
	if said, err := parseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil {
		d.Digest = said
	}
	return raw, d, nil
}

// blob goes on where a broken connection left it.
func (r *registry) blob(ctx context.Context, d Descriptor, off, end int64) (io.ReadCloser, error) {
	if off >= end {
		return http.NoBody, nil
	}
	b := &blobReader{r: r, ctx: ctx, d: d, off: off, end: end}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// A blobReader reads a blob of a registry over as many requests as it takes.
type blobReader struct {
	r     *registry
	ctx   context.Context
	d     Descriptor
	off   int64 // of the next byte
	end   int64 // no more is read
	body  io.ReadCloser
	fails int
}

func (b *blobReader) open() error {
	c := call{method: http.MethodGet, url: b.r.at("blobs", b.d.Digest.String()), want: []int{200, 206}}
	if b.off > 0 || b.end < b.d.Size {
		c.header = map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", b.off, b.end-1)}
	}
	resp, err := b.r.do(b.ctx, c)
	if err != nil {
		return err
	}
	b.body = resp.Body
	if b.off > 0 && resp.StatusCode == http.StatusOK {
		// The registry knows no ranges: the beginning comes again.
		if _, err := io.CopyN(io.Discard, resp.Body, b.off); err != nil {
			resp.Body.Close()
			return err
		}
	}
	if rng := resp.Header.Get("Content-Range"); resp.StatusCode == http.StatusPartialContent && !strings.HasPrefix(rng, "bytes "+strconv.FormatInt(b.off, 10)+"-") {
		resp.Body.Close()
		return fmt.Errorf("%w: the registry answered with range %.60q when asked from %d on", ErrCorrupt, rng, b.off)
	}
	return nil
}

// Read reads on; connections that break are made again as long as bytes come.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if b.off == b.end && b.end < b.d.Size {
			return 0, io.EOF // a server without ranges would go on
		}
		if left := b.end - b.off; b.end < b.d.Size && int64(len(p)) > left {
			p = p[:left]
		}
		n, err := b.body.Read(p)
		b.off += int64(n)
		if n > 0 {
			b.fails = 0
		}
		if err == io.EOF && b.off < b.end {
			err = io.ErrUnexpectedEOF
		}
		if n > 0 || err == nil || err == io.EOF || b.ctx.Err() != nil {
			if err != io.EOF && n > 0 {
				err = nil // it comes again with the next read
			}
			return n, err
		}
		b.fails++
		if b.fails >= attempts {
			return 0, redacted(err)
		}
		b.body.Close()
		if err := pause(b.ctx, b.fails-1); err != nil {
			return 0, err
		}
		if err := b.open(); err != nil {
			return 0, err
		}
	}
}

// Close ends the request.
func (b *blobReader) Close() error { return b.body.Close() }
