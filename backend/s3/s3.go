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
	"time"

	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are and who asks for them.
type Options struct {
	httprange.Bucket
	Region string
	// VirtualHosted puts the bucket's name in front of the endpoint.
	VirtualHosted bool
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*httprange.Store, error) {
	s, err := opt.Store(o, "s3", (&signer{opt.Region, time.Now}).sign, ", region and the clock")
	switch {
	case err != nil:
		return nil, err
	case opt.VirtualHosted:
		s.Base.Host = opt.Name + "." + opt.Endpoint
	default:
		s.Base.Path = "/" + opt.Name + "/" + opt.Prefix
	}
	return s, nil
}
