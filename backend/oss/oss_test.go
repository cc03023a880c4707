package oss

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSignatureOfTheManual is the example of Alibaba Cloud's documentation.
func TestSignatureOfTheManual(t *testing.T) {
	const secret = "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV"
	text := "PUT\nODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=\ntext/html\nThu, 17 Nov 2005 18:49:58 GMT\n" +
		"x-oss-magic:abracadabra\nx-oss-meta-author:foo@bar.com\n/oss-example/nelson"
	if got, want := signature(secret, text), "26NBxoKdsyly4EDv6inkoDft/yA="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
