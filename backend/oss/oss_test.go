package oss

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id     = "LTAIexample"
	secret = "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV"
)

// TestSignatureOfTheManual is the example of Alibaba Cloud's documentation.
func TestSignatureOfTheManual(t *testing.T) {
	text := "PUT\nODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=\ntext/html\nThu, 17 Nov 2005 18:49:58 GMT\n" +
		"x-oss-magic:abracadabra\nx-oss-meta-author:foo@bar.com\n/oss-example/nelson"
	if got, want := signature(secret, text), "26NBxoKdsyly4EDv6inkoDft/yA="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// store is a server of one bucket that checks signatures, and refuses old ones. It is
// reached as a proxy is: the bucket's name has no address.
func store(t *testing.T, blobs map[string][]byte) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		date, err := time.Parse(http.TimeFormat, r.Header.Get("Date"))
		bucket, endpoint, _ := strings.Cut(r.Host, ".")
		text := r.Method + "\n" + r.Header.Get("Content-MD5") + "\n" + r.Header.Get("Content-Type") + "\n" + r.Header.Get("Date") + "\n/" + bucket + r.URL.Path
		data, found := blobs[strings.TrimPrefix(r.URL.Path, "/images/")]
		switch {
		case endpoint != "oss.example" || bucket != "bucket":
			w.WriteHeader(http.StatusBadRequest)
		case err != nil || time.Since(date).Abs() > time.Minute, r.Header.Get("Authorization") != "OSS "+id+":"+signature(secret, text):
			w.WriteHeader(http.StatusForbidden)
		case !found:
			w.WriteHeader(http.StatusNotFound)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func open(t *testing.T, proxy *url.URL, id, secret string) *httprange.Store {
	t.Helper()
	s, err := New(opener.Local(), Options{
		HTTP:   httprange.Options{Proxy: httprange.Proxy{URL: func() *url.URL { return proxy }}},
		Scheme: "http", Endpoint: "oss.example", Bucket: "bucket", Prefix: "images/", AccessKeyID: id, AccessKeySecret: secret,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
		return open(t, store(t, blobs), id, secret)
	})
}

func TestRefusalsSayWhatToCheck(t *testing.T) {
	u := store(t, map[string][]byte{"blob": []byte("x")})
	for name, s := range map[string]*httprange.Store{"wrong secret": open(t, u, id, "hunter2"), "anonymous": open(t, u, "", "")} {
		b, err := s.Open(t.Context(), "blob")
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.ReadAt(t.Context(), make([]byte, 1), 0)
		if err == nil || !strings.Contains(err.Error(), "403 Forbidden; check access_key_id") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		_ = b.Close()
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, opt := range []Options{{Scheme: "ftp", Endpoint: "h", Bucket: "b"}, {Scheme: "http", Bucket: "b"}, {Scheme: "http", Endpoint: "h"}} {
		if _, err := New(opener.Local(), opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
}
