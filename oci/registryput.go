package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
)

// uploadPart is how much of a blob is sent with one request, and kept until the
// registry has it: two of them per upload bound the memory.
const uploadPart = 8 << 20

func (r *registry) has(ctx context.Context, d Descriptor) (bool, error) {
	resp, err := r.do(ctx, call{method: http.MethodHead, url: r.at("blobs", d.Digest.String()), want: []int{200}})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

func (r *registry) mount(ctx context.Context, d Descriptor, from Ref) (bool, error) {
	if from.Kind != KindRegistry || from.Registry != r.repo.RegistryStr() || from.Repo == r.repo.RepositoryStr() {
		return false, nil
	}
	u := r.at("blobs", "uploads/")
	u.RawQuery = url.Values{"mount": {d.Digest.String()}, "from": {from.Repo}}.Encode()
	resp, err := r.do(ctx, call{method: http.MethodPost, url: u, want: []int{201, 202}})
	if err != nil {
		// A registry may refuse what these credentials cannot read there; the blob is then
		// sent as any other.
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrNotFound) {
			err = nil
		}
		return false, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	// It began an upload instead, which nobody is going to use.
	if at, err := resp.Location(); err == nil {
		r.cancel(at)
	}
	return false, nil
}

// cancel ends an upload that is not used. A registry that does not want to is left
// alone: it removes what is old.
func (r *registry) cancel(at *url.URL) {
	ctx, stop := context.WithTimeout(context.Background(), dialTimeout)
	defer stop()
	if resp, err := r.once(ctx, call{method: http.MethodDelete, url: at, want: []int{200, 202, 204}}); err == nil {
		resp.Body.Close()
	}
}

func (r *registry) putManifest(ctx context.Context, raw []byte, d Descriptor) error {
	return r.tag(ctx, raw, d, d.Digest.String())
}

func (r *registry) tag(ctx context.Context, raw []byte, d Descriptor, id string) error {
	if id == "" {
		id = name.DefaultTag
	}
	resp, err := r.do(ctx, call{
		method: http.MethodPut, url: r.at("manifests", id), body: string(raw),
		header: map[string]string{"Content-Type": d.MediaType}, want: []int{200, 201, 202},
	})
	if err != nil {
		return fmt.Errorf("manifest %s: %w", id, err)
	}
	resp.Body.Close()
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != d.Digest.String() {
		return fmt.Errorf("%w: the registry stored manifest %s as %.100q", ErrCorrupt, d.Digest, said)
	}
	return nil
}

func (r *registry) finish(context.Context) error { return nil }

func (r *registry) upload(ctx context.Context) (upload, error) {
	return &registryUpload{r: r, ctx: ctx}, nil
}

// A registryUpload sends a blob in parts, one of which is on its way while the next
// is filled. A part that gets lost is sent again from where the registry has it. A blob
// of one part is sent with the request that ends it.
//
//	POST uploads/ -> PATCH part -> PATCH part -> ... -> PUT ?digest= (last part)
type registryUpload struct {
	r   *registry
	ctx context.Context
	at  *url.URL // where the next request goes; nil before the first

	part    []byte // being filled
	off     int64  // of part in the blob
	sending []byte // on its way, unless busy is nil
	busy    chan error
	spare   []byte // for the next part
	err     error
	done    bool
}

// Write fills the part and sends it on when there is more.
func (u *registryUpload) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if u.part == nil {
			u.part = u.buffer()
		}
		if len(u.part) == cap(u.part) {
			if err := u.send(); err != nil {
				return n - len(p), err
			}
			continue
		}
		k := copy(u.part[len(u.part):cap(u.part)], p)
		u.part, p = u.part[:len(u.part)+k], p[k:]
	}
	return n, nil
}

func (u *registryUpload) buffer() []byte {
	if b := u.spare; b != nil {
		u.spare = nil
		return b[:0]
	}
	return make([]byte, 0, uploadPart)
}

// send waits for the part before, and starts sending this one.
func (u *registryUpload) send() error {
	if err := u.wait(); err != nil {
		return err
	}
	if u.err = u.begin(u.ctx); u.err != nil {
		return u.err
	}
	off := u.off
	u.sending, u.busy = u.part, make(chan error, 1)
	u.part, u.off = nil, off+int64(len(u.sending))
	go func() { u.busy <- u.patch(u.ctx, u.sending, off) }()
	return nil
}

// wait returns the outcome of the part that is on its way.
func (u *registryUpload) wait() error {
	if u.busy != nil {
		u.err = <-u.busy
		u.busy, u.spare, u.sending = nil, u.sending, nil
	}
	return u.err
}

// begin asks for a place to send to.
func (u *registryUpload) begin(ctx context.Context) error {
	if u.at != nil {
		return nil
	}
	resp, err := u.r.do(ctx, call{method: http.MethodPost, url: u.r.at("blobs", "uploads/"), want: []int{202}})
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	resp.Body.Close()
	return u.moved(resp)
}

// moved takes over where the registry wants the next request. Only its own host may be
// named without a signature: our credentials go nowhere else, which the transport sees to.
func (u *registryUpload) moved(resp *http.Response) error {
	at, err := resp.Location()
	if errors.Is(err, http.ErrNoLocation) && u.at != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: the registry says not where to upload to: %w", ErrCorrupt, err)
	}
	u.at = at
	return nil
}

// errUploadLost is the class of uploads that have to begin again, with other bytes than
// are still at hand. Debian's docker-registry forgets an upload at the first answer that
// gets lost; others say how much they have.
var errUploadLost = errors.New("the upload must begin again")

// patch sends a part that lies at off. What the registry says about how far it got
// decides what is sent again.
func (u *registryUpload) patch(ctx context.Context, part []byte, off int64) error {
	end := off + int64(len(part))
	for n := 0; ; n++ {
		err := u.patchOnce(ctx, part[int64(len(part))-(end-off):], off)
		if err == nil {
			return nil
		}
		if n+1 == attempts || !retryable(err) || ctx.Err() != nil {
			return fmt.Errorf("upload at byte %d: %w", off, err)
		}
		if perr := pause(ctx, n); perr != nil {
			return perr
		}
		at, serr := u.status(ctx)
		if serr == nil && (at < off || at > end) {
			serr = fmt.Errorf("it has %d bytes", at)
		}
		if serr != nil {
			return fmt.Errorf("upload at byte %d: %w (asked how far it got: %w): %w", off, err, serr, errUploadLost)
		}
		if off = at; off == end {
			return nil
		}
	}
}

func (u *registryUpload) patchOnce(ctx context.Context, p []byte, off int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.at.String(), bytes.NewReader(p))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", off, off+int64(len(p))-1))
	resp, err := u.r.client.Do(req)
	if err != nil {
		return redacted(err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, 202, 204, 201); err != nil {
		return classify(err)
	}
	return u.moved(resp)
}

// status asks how many bytes of the upload the registry has.
func (u *registryUpload) status(ctx context.Context) (int64, error) {
	resp, err := u.r.do(ctx, call{method: http.MethodGet, url: u.at, want: []int{204, 200, 202}})
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if err := u.moved(resp); err != nil {
		return 0, err
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || first != "0" || n < 0 {
		return 0, fmt.Errorf("%w: range %.40q", ErrCorrupt, resp.Header.Get("Range"))
	}
	if n == 0 {
		return 0, nil // of one byte or of none: the byte is sent again
	}
	return n + 1, nil
}

func (u *registryUpload) commit(ctx context.Context, dg digest.Digest, size int64) error {
	if err := u.wait(); err != nil {
		return err
	}
	if u.off+int64(len(u.part)) != size {
		return fmt.Errorf("%w: %d bytes were written, %d announced", ErrCorrupt, u.off+int64(len(u.part)), size)
	}
	for n := 0; ; n++ {
		err := u.end(ctx, dg)
		if err == nil {
			u.done = true
			return nil
		}
		if n+1 == attempts || !retryable(err) || ctx.Err() != nil {
			return fmt.Errorf("end upload of %s: %w", dg, err)
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
		// The answer may have been lost after the registry had done all.
		if there, err := u.r.has(ctx, Descriptor{Digest: dg, Size: size}); err == nil && there {
			u.done = true
			return nil
		}
		if u.off == 0 {
			u.at = nil // nothing is lost by beginning again
		}
	}
}

// end sends the last part with the request that ends the upload.
func (u *registryUpload) end(ctx context.Context, dg digest.Digest) error {
	if err := u.begin(ctx); err != nil {
		return err
	}
	if u.off > 0 && len(u.part) > 0 {
		if err := u.patch(ctx, u.part, u.off); err != nil {
			return err
		}
		u.off, u.part = u.off+int64(len(u.part)), nil
	}
	at := *u.at
	q := at.Query()
	q.Set("digest", dg.String())
	at.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), bytes.NewReader(u.part))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := u.r.client.Do(req)
	if err != nil {
		return redacted(err)
	}
	defer resp.Body.Close()
	return classify(transport.CheckError(resp, 201, 200, 204))
}

func (u *registryUpload) abort() {
	if u.done {
		return
	}
	u.done = true
	_ = u.wait()
	if u.at != nil {
		u.r.cancel(u.at)
	}
}

// size asks for the size of a blob.
func (r *registry) size(ctx context.Context, d digest.Digest) (int64, error) {
	resp, err := r.do(ctx, call{method: http.MethodHead, url: r.at("blobs", d.String()), want: []int{200}})
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.ContentLength < 0 {
		return 0, fmt.Errorf("%w: the registry says no size", ErrUnsupported)
	}
	return resp.ContentLength, nil
}
