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
		{v1 + `,"fs_prefetch":{"enable":true,"prefetch_all":false,"stream_prefetch":true}}`, warmUp{lists: true, all: true}},
		{v1 + `,"fs_prefetch":{"enable":false,"stream_prefetch":true}}`, warmUp{}},
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

func TestPrefetchKeepsToItsKeys(t *testing.T) {
	const v1 = `{"device":{"backend":{"type":"localfs","config":{"dir":"/b"}}},"mode":"direct","fs_prefetch":{"enable":true,"threads_count":3,"merging_size":65536,"bandwidth_rate":7`
	for more, want := range map[string]prefetchKey{
		"}}":                        {rate: 7, requests: 3, bytes: 65536},
		`,"stream_prefetch":true}}`: {rate: 7, requests: 3, bytes: 65536, stream: true},
	} {
		c, err := config.Parse([]byte(v1 + more))
		if err != nil {
			t.Fatal(err)
		}
		if got := prefetchOf(c); got != want {
			t.Errorf("%s: got %+v, want %+v", more, got, want)
		}
	}
}
