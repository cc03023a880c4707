package oci

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// A route is where images come from and where they go to: what copying and converting
// in either direction have in common.
type route struct {
	src, dst Ref
	from     *Repo
	to       target
	parallel int // pieces of work at a time
	progress *Progress
}

// routeOptions are those of a route, which the options of every operation have.
type routeOptions struct {
	from, to Access
	parallel int // what was asked for; 0 is usual
	usual    int
	progress *Progress
	others   []Ref // beside the source, references whose blobs may be mounted
}

// openRoute opens both ends, the source first: nothing is made at the other for a place
// that cannot be read.
func openRoute(ctx context.Context, src, dst Ref, o routeOptions) (*route, error) {
	if err := checkDest(dst); err != nil {
		return nil, err
	}
	from, err := Open(ctx, src, Options{Access: o.from})
	if err != nil {
		return nil, err
	}
	to, err := create(ctx, dst, &o.to, append([]Ref{src}, o.others...)...)
	if err != nil {
		from.Close()
		return nil, err
	}
	r := &route{src: src, dst: dst, from: from, to: to, parallel: o.parallel, progress: o.progress}
	if r.parallel <= 0 {
		r.parallel = o.usual
	}
	if _, one := to.(*archiveTarget); one {
		r.parallel = 1 // a tar has one end, and should be the same every time
	}
	return r, nil
}

// close releases both ends. What counts was reported by finish.
func (r *route) close() {
	_ = r.to.close()
	_ = r.from.Close()
}

// finish gives the document its name when everything that it names is there, and tells
// the reference of the result by its digest.
func (r *route) finish(ctx context.Context, raw []byte, d Descriptor) (Ref, digest.Digest, error) {
	if err := r.to.tag(ctx, raw, d, r.dst.Tag); err != nil {
		return Ref{}, "", err
	}
	if err := r.to.finish(ctx); err != nil {
		return Ref{}, "", err
	}
	r.progress.tell(Event{What: "image", Name: r.dst.String(), State: StateDone, Result: d.Digest.String()})
	return r.dst.WithDigest(d.Digest), d.Digest, nil
}
