package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// referrersTag is the name of the index of what refers to d, where a place has no other
// way to find that (distribution-spec, "Referrers tag schema").
func referrersTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()
}

// isMissing reports whether an image is not there, in any of the ways of not being there.
func isMissing(err error) bool { return errors.Is(err, ErrNotFound) }

// A referrerLister can be asked for what refers to a manifest.
type referrerLister interface {
	// referrers lists them; ErrNotFound means that it has no list of its own.
	referrers(ctx context.Context, d digest.Digest) (*Index, error)
}

// maxPages is how many pages of a list of referrers are read.
const maxPages = 64

func (r *registry) referrers(ctx context.Context, d digest.Digest) (*Index, error) {
	all, at := &Index{}, r.at("referrers", d.String())
	for range maxPages {
		page, next, err := r.referrersPage(ctx, at)
		if err != nil {
			return nil, err
		}
		if all.Manifests = append(all.Manifests, page.Manifests...); next == nil || len(all.Manifests) >= maxEntries {
			break
		}
		at = next
	}
	return all, nil
}

// referrersPage reads one page of a list and finds where the next is; nil if there is none.
func (r *registry) referrersPage(ctx context.Context, at *url.URL) (*Index, *url.URL, error) {
	resp, raw, err := r.document(ctx, call{method: http.MethodGet, url: at, header: map[string]string{"Accept": MediaTypeIndex}, want: []int{200}})
	if err != nil {
		return nil, nil, err
	}
	if typ := resp.Header.Get("Content-Type"); !strings.HasPrefix(typ, MediaTypeIndex) {
		// A registry that does not know the address may answer anything.
		return nil, nil, fmt.Errorf("%w: referrers of type %.60q", ErrNotFound, typ)
	}
	if len(raw) > maxManifest {
		return nil, nil, fmt.Errorf("%w: list of referrers of more than %d bytes", ErrCorrupt, maxManifest)
	}
	page, err := parseIndex(raw)
	if err != nil {
		return nil, nil, err
	}
	return page, r.nextPage(at, resp.Header.Get("Link")), nil
}

// nextPage reads a link to the next page (RFC 8288; distribution-spec, "Listing
// Referrers"); nil if there is none in the same repository. Nobody else is asked, whatever
// host it names: a registry behind a proxy may not know its own name.
func (r *registry) nextPage(at *url.URL, link string) *url.URL {
	target, params, ok := strings.Cut(link, ">")
	if !ok || !strings.HasPrefix(target, "<") || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
		return nil
	}
	next, err := at.Parse(target[1:])
	if err != nil || !strings.HasPrefix(path.Clean(next.Path), r.base.Path) {
		return nil
	}
	return &url.URL{Scheme: r.base.Scheme, Host: r.base.Host, Path: next.Path, RawQuery: next.RawQuery}
}

// referrers lists what refers to a manifest of a place.
func (r *Repo) referrers(ctx context.Context, d digest.Digest) (*Index, error) {
	if l, ok := r.store.(referrerLister); ok {
		x, err := l.referrers(ctx, d)
		if !isMissing(err) {
			return x, err
		}
	}
	raw, got, err := r.document(ctx, r.ref.WithTag(referrersTag(d)), nil)
	if err != nil {
		return nil, err
	}
	if !got.IsIndex() {
		return nil, fmt.Errorf("%w: %s is no index", ErrCorrupt, referrersTag(d))
	}
	return parseIndex(raw)
}

// addReferrer makes d, which was put with its subject, known as a referrer of subject
// where the place does not find out by itself.
func addReferrer(ctx context.Context, t target, subject digest.Digest, d Descriptor) error {
	if l, ok := t.(referrerLister); ok {
		x, err := l.referrers(ctx, subject)
		if err == nil && slices.ContainsFunc(x.Manifests, func(e Descriptor) bool { return e.Digest == d.Digest }) {
			return nil
		}
		if err != nil && !isMissing(err) {
			return err
		}
	}
	tag := referrersTag(subject)
	x := &Index{SchemaVersion: 2, MediaType: MediaTypeIndex}
	raw, _, err := t.manifest(ctx, Ref{Tag: tag})
	switch {
	case isMissing(err):
	case err != nil:
		return err
	default:
		if x, err = parseIndex(raw); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	if len(x.Manifests) > 0 && x.Manifests[0].Digest == d.Digest {
		return nil
	}
	// Clients take the first, which is the newest; nydus-snapshotter looks at no other.
	d.Platform, d.Annotations, d.ArtifactType = nil, nil, ArtifactTypeNydus
	x.Manifests = slices.DeleteFunc(x.Manifests, func(e Descriptor) bool { return e.Digest == d.Digest })
	x.Manifests = slices.Insert(x.Manifests, 0, d)
	raw, err = json.Marshal(x)
	if err != nil {
		return err
	}
	return t.tag(ctx, raw, Descriptor{MediaType: MediaTypeIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, tag)
}
