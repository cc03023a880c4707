package daemon

import (
	"testing"

	"vrafs/config"
)

func TestPrefetchTablesOfBothVersions(t *testing.T) {
	const rest = `"backend":{"type":"localfs","localfs":{"dir":"/b"}},"cache":{"type":"filecache","filecache":{"work_dir":"/c"}`
	const v1 = `{"device":{"backend":{"type":"localfs","config":{"dir":"/b"}}},"mode":"direct"`
	for _, tt := range []struct {
		text string
		want warmUp
	}{
		{v1 + `}`, warmUp{}},
		{v1 + `,"fs_prefetch":{"enable":true}}`, warmUp{lists: true, all: true}},
		{v1 + `,"fs_prefetch":{"enable":true,"prefetch_all":false}}`, warmUp{lists: true}},
		{`{"version":2,` + rest + `}}`, warmUp{}},
		{`{"version":2,` + rest + `},"rafs":{"prefetch":{"enable":true}}}`, warmUp{lists: true}},
		{`{"version":2,` + rest + `,"prefetch":{"enable":true,"prefetch_all":true}}}`, warmUp{all: true}},
		{`{"version":2,` + rest + `,"prefetch":{"enable":false,"prefetch_all":true}}}`, warmUp{}},
	} {
		c, err := config.Parse([]byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := newWarmUp(c); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.text, got, tt.want)
		}
	}
}
