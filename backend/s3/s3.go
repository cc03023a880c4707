// Package s3 reads blobs from object stores that speak Amazon's protocol.
//
//	GET scheme://endpoint/bucket/prefix<blob id>   path style
//	GET scheme://bucket.endpoint/prefix<blob id>   virtual-hosted style
//	Authorization: AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...
//
// Each request is signed anew, with signature version 4 and an unsigned payload.
// Without keys requests are anonymous.
//
// Trust: none in servers; bytes are the caller's to verify. Keys never leave the
// process. Concurrency: everything may be called from any goroutine.
//
// Source: nydusd 3.4, backend type s3; AWS, "Signature Version 4 signing process".
package s3

import (
	"fmt"
	"net/url"
	"time"

	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are and who asks for them.
type Options struct {
	HTTP     httprange.Options
	Scheme   string // "http" or "https"
	Endpoint string // name[:port]
	Region   string
	Bucket   string
	Prefix   string // of every object's name
	// VirtualHosted puts the bucket's name in front of the endpoint.
	VirtualHosted bool
	// Keys are asked for at every request, since they may change; empty ones read
	// anonymously.
	Keys func() httprange.Keys
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*httprange.Store, error) {
	if (opt.Scheme != "http" && opt.Scheme != "https") || opt.Endpoint == "" || opt.Bucket == "" {
		return nil, fmt.Errorf("s3: scheme %q, endpoint %q, bucket %q: not an address", opt.Scheme, opt.Endpoint, opt.Bucket)
	}
	client, err := httprange.New(o, opt.HTTP)
	if err != nil {
		return nil, fmt.Errorf("s3 %s: %w", opt.Endpoint, err)
	}
	s := &httprange.Store{
		Client: client,
		Base:   url.URL{Scheme: opt.Scheme, Host: opt.Endpoint, Path: "/" + opt.Bucket + "/" + opt.Prefix},
		Keys:   opt.Keys,
		Sign:   (&signer{opt.Region, time.Now}).sign,
		Denied: "check access_key_id, access_key_secret, security_token, region and the clock; they must allow GetObject in " + opt.Bucket,
	}
	if opt.VirtualHosted {
		s.Base.Host, s.Base.Path = opt.Bucket+"."+opt.Endpoint, "/"+opt.Prefix
	}
	return s, nil
}
