package s3

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"vrafs/internal/httprange"
)

// TestSignatureOfTheManual is "GET Object" of AWS's examples for version 4.
func TestSignatureOfTheManual(t *testing.T) {
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	canonical := strings.Join([]string{"GET", "/test.txt", "",
		"host:examplebucket.s3.amazonaws.com", "range:bytes=0-9", "x-amz-content-sha256:" + empty, "x-amz-date:20130524T000000Z", "",
		"host;range;x-amz-content-sha256;x-amz-date", empty}, "\n")
	s := &signer{region: "us-east-1"}
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	stamp := "20130524T000000Z"
	if got, want := s.signature(secret, stamp, s.scope(stamp), canonical), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSignaturesNameWhatTheySign(t *testing.T) {
	s := &signer{"eu-1", func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)) }}
	h := http.Header{}
	s.sign(httprange.Keys{ID: "AKID", Secret: "secret"}, &url.URL{Scheme: "https", Host: "s3.example:9000", Path: "/b/a b", RawPath: "/b/a%20b"}, h)
	got := h.Get("Authorization")
	want := "AWS4-HMAC-SHA256 Credential=AKID/20260102/eu-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
	if !strings.HasPrefix(got, want) || len(got) != len(want)+64 || h.Get("X-Amz-Date") != "20260102T020405Z" || h.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" {
		t.Errorf("got %v", h)
	}
}

// TestSessionTokensAreSigned with the other headers, in their order.
func TestSessionTokensAreSigned(t *testing.T) {
	s := &signer{"eu-1", func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC) }}
	h := http.Header{}
	s.sign(httprange.Keys{ID: "AKID", Secret: "secret", Token: "token/+="}, &url.URL{Scheme: "https", Host: "b.s3.example", Path: "/blob"}, h)
	canonical := "GET\n/blob\n\nhost:b.s3.example\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:20260102T030405Z\n" +
		"x-amz-security-token:token/+=\n\nhost;x-amz-content-sha256;x-amz-date;x-amz-security-token\nUNSIGNED-PAYLOAD"
	const stamp = "20260102T030405Z"
	want := "AWS4-HMAC-SHA256 Credential=AKID/20260102/eu-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=" +
		s.signature("secret", stamp, s.scope(stamp), canonical)
	if h.Get("Authorization") != want || h.Get("X-Amz-Security-Token") != "token/+=" {
		t.Errorf("got %v, want %s", h, want)
	}
}
