package s3

import (
	"testing"

	"go.uber.org/goleak"

	"vrafs/internal/opener"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, opt := range []Options{{Scheme: "ftp", Endpoint: "h", Bucket: "b"}, {Scheme: "http", Bucket: "b"}, {Scheme: "http", Endpoint: "h"}} {
		if _, err := New(opener.Local(), opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
}
