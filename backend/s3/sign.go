package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vrafs/internal/httprange"
)

const (
	algorithm       = "AWS4-HMAC-SHA256"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	stampLayout     = "20060102T150405Z"
	dayLen          = len("20060102")
)

// A signer signs GET requests without a body.
type signer struct {
	region string
	now    func() time.Time
}

// sign adds the headers of a signature.
func (s *signer) sign(k httprange.Keys, u *url.URL, h http.Header) {
	stamp := s.now().UTC().Format(stampLayout)
	h.Set("X-Amz-Content-Sha256", unsignedPayload)
	h.Set("X-Amz-Date", stamp)
	names := []string{"host", "x-amz-content-sha256", "x-amz-date"} // sorted
	if k.Token != "" {
		h.Set("X-Amz-Security-Token", k.Token)
		names = append(names, "x-amz-security-token")
	}
	headers, signed := "", strings.Join(names, ";")
	for _, name := range names {
		value := h.Get(name)
		if name == "host" {
			value = u.Host
		}
		headers += name + ":" + value + "\n"
	}
	canonical := strings.Join([]string{http.MethodGet, u.EscapedPath(), u.RawQuery, headers, signed, unsignedPayload}, "\n")
	scope := s.scope(stamp)
	h.Set("Authorization", algorithm+" Credential="+k.ID+"/"+scope+", SignedHeaders="+signed+
		", Signature="+s.signature(k.Secret, stamp, scope, canonical))
}

func (s *signer) scope(stamp string) string {
	return stamp[:dayLen] + "/" + s.region + "/s3/aws4_request"
}

// signature signs a canonical request.
func (s *signer) signature(secret, stamp, scope, canonical string) string {
	digest := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, algorithm+"\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(digest[:])))
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
