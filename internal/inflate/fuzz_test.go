package inflate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
)

// FuzzReader compares with the standard library: what it accepts must be accepted
// and give the same bytes, and every error must have its class.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 20
		got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(data)), limit))
		if err != nil && !errors.Is(err, ErrData) {
			t.Fatalf("error of no class: %v", err)
		}
		r, stdErr := gzip.NewReader(bytes.NewReader(data))
		if stdErr != nil {
			return
		}
		want, stdErr := io.ReadAll(io.LimitReader(r, limit))
		if stdErr == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, error %v; the standard library gives %d", len(got), err, len(want))
		}
	})
}
