// Package oss reads blobs from Alibaba Cloud's object store.
//
//	GET scheme://bucket.endpoint/prefix<blob id>
//	Authorization: OSS <id>:<signature>
//
// Each request is signed anew, with signature version 1 over method, date, bucket
// and object. Without keys requests are anonymous.
//
// Trust: none in servers; bytes are the caller's to verify. Keys never leave the
// process. Concurrency: everything may be called from any goroutine.
//
// Source: nydusd 3.4, backend type oss; Alibaba Cloud, "Include signatures in the
// Authorization header" (version 1).
package oss

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are and who asks for them.
type Options struct {
	HTTP     httprange.Options
	Scheme   string // "http" or "https"
	Endpoint string // name[:port], to which the bucket's name is put in front
	Host     string // of a mirror, asked instead of bucket.endpoint; or empty
	Bucket   string
	Prefix   string // of every object's name
	// Keys are asked for at every request, since they may change; empty ones read
	// anonymously.
	Keys func() httprange.Keys
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*httprange.Store, error) {
	if (opt.Scheme != "http" && opt.Scheme != "https") || opt.Endpoint == "" || opt.Bucket == "" {
		return nil, fmt.Errorf("oss: scheme %q, endpoint %q, bucket %q: not an address", opt.Scheme, opt.Endpoint, opt.Bucket)
	}
	client, err := httprange.New(o, opt.HTTP)
	if err != nil {
		return nil, fmt.Errorf("oss %s: %w", opt.Endpoint, err)
	}
	return &httprange.Store{
		Client: client,
		Base:   url.URL{Scheme: opt.Scheme, Host: cmp.Or(opt.Host, opt.Bucket+"."+opt.Endpoint), Path: "/" + opt.Prefix},
		Keys:   opt.Keys,
		Sign:   (&signer{opt.Bucket, time.Now}).sign,
		Denied: "check access_key_id, access_key_secret, security_token and the clock; they must allow GetObject in " + opt.Bucket,
	}, nil
}

// A signer signs GET requests.
type signer struct {
	bucket string
	now    func() time.Time
}

// headerToken carries a session's token.
const headerToken = "x-oss-security-token"

// sign adds the headers of a signature. What is signed: method, Content-MD5,
// Content-Type, Date, headers of OSS's own, and the resource.
func (s *signer) sign(k httprange.Keys, u *url.URL, h http.Header) {
	date, own := s.now().UTC().Format(http.TimeFormat), ""
	h.Set("Date", date)
	if k.Token != "" {
		h.Set(headerToken, k.Token)
		own = headerToken + ":" + k.Token + "\n"
	}
	h.Set("Authorization", "OSS "+k.ID+":"+signature(k.Secret, "GET\n\n\n"+date+"\n"+own+"/"+s.bucket+u.Path))
}

func signature(secret, text string) string {
	m := hmac.New(sha1.New, []byte(secret))
	m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}
