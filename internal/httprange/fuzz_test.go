package httprange

import (
	"math"
	"net/http"
	"testing"
)

// FuzzAnswer gives the judge of answers whatever headers a server may send: it
// never takes more than was asked for, and never beyond what the server has.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, status uint16, contentRange string, length int64, n uint32, off uint64) {
		off %= math.MaxInt64 - uint64(n) + 1 // what Range asks for
		r := Reply{Status: int(status), Header: http.Header{"Content-Range": {contentRange}}}
		want, err := r.judge(max(length, -1), uint64(n), off)
		if want > uint64(n) || err != nil && want != 0 {
			t.Fatalf("%d of %d bytes, %v", want, n, err)
		}
		if err == nil && r.Sized && want > 0 && off+want > r.Size {
			t.Fatalf("%d bytes at %d of %d", want, off, r.Size)
		}
		if err == nil && want < uint64(n) && r.Status != http.StatusRequestedRangeNotSatisfiable && (!r.Sized || off+want < r.Size) {
			t.Fatalf("%d of %d bytes at %d, which is not the end", want, n, off)
		}
	})
}
