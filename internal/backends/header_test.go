package backends

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtraHeaderComesFromTheEnvironment(t *testing.T) {
	got, err := HeaderOf([]string{"PATH=/bin", "NYDUS_HEADER_X-Tenant=blue", "NYDUS_HEADER_x-empty=", "NYDUS_HEADERS=no"})
	want := http.Header{"X-Tenant": {"blue"}, "X-Empty": {""}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, entry := range []string{"NYDUS_HEADER_=x", "NYDUS_HEADER_a b=x", "NYDUS_HEADER_a:=x", "NYDUS_HEADER_a=x\r\nb: c", "NYDUS_HEADER_é=x"} {
		if h, err := HeaderOf([]string{entry}); err == nil {
			t.Errorf("%q gave %v", entry, h)
		}
	}
}
