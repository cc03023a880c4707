package httprange

import (
	"testing"

	"vrafs/internal/opener"
)

func TestBucketsWithoutAnAddressAreRefused(t *testing.T) {
	for _, b := range []Bucket{{Scheme: "ftp", Endpoint: "h", Name: "b"}, {Scheme: "http", Name: "b"}, {Scheme: "http", Endpoint: "h"}} {
		if _, err := b.Store(opener.Local(), "s3", nil, ""); err == nil {
			t.Errorf("%+v was accepted", b)
		}
	}
	b := Bucket{Scheme: "http", Endpoint: "h", Name: "b"}
	s, err := b.Store(opener.Local(), "s3", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
