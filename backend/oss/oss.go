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
	"net/http"
	"net/url"
	"time"

	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are and who asks for them.
type Options struct {
	httprange.Bucket
	Host string // of a mirror, asked instead of bucket.endpoint; or empty
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*httprange.Store, error) {
	s, err := opt.Store(o, "oss", (&signer{opt.Name, time.Now}).sign, " and the clock")
	if err != nil {
		return nil, err
	}
	s.Base.Host = cmp.Or(opt.Host, opt.Name+"."+opt.Endpoint)
	return s, nil
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
