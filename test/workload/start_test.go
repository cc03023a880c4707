package workload

import (
	"os/exec"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
	"vrafs/internal/testregistry"
)

// learn gives what a daemon says was read, as a list for prefetch.
func learn(t testing.TB, list *string) func(api string) error {
	return func(api string) error {
		out, err := exec.Command(program(t, "vrafs"), "ctl", "-S", api, "files").Output()
		*list = string(out)
		return err
	}
}

// lists prefetches lists alone, all everything.
var (
	lists = map[string]any{"enable": true}
	all   = map[string]any{"enable": true, "prefetch_all": true}
)

// TestStartWithALearnedListTakesFewRequests: 40 at most, the fetching of the metadata
// included, and hardly more bytes than the start needs.
func TestStartWithALearnedListTakesFewRequests(t *testing.T) {
	testenv.Long(t)
	s := newStage(t, slow)
	for i := range workloads {
		w := &workloads[i]
		if i > 0 && !testenv.Soak() {
			break
		}
		t.Run(w.name, func(t *testing.T) {
			im := s.push(w.image(t))
			var list string
			needed, err := s.lazily(im, w, variant{}, learn(t, &list))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.lazily(im, w, variant{amplify: ordinary, prefetch: lists, list: list}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("needed: %+v, with the list: %+v", needed, got)
			if got.count.requests > 40 || got.count.bytes > needed.count.bytes*5/4 {
				t.Errorf("%d requests and %d bytes; %d and %d without prefetch", got.count.requests, got.count.bytes, needed.count.requests, needed.count.bytes)
			}
		})
	}
}

// TestSecondHostTakesNothingFromTheOrigin: two hosts reach a registry through one proxy
// that caches ranges. What the first one started with, the second one has from there.
func TestSecondHostTakesNothingFromTheOrigin(t *testing.T) {
	testenv.Long(t)
	s := newStage(t, loopback)
	origin := newLine(t, nil, "127.0.0.1:0", s.registry.Host, 0)
	cache := testregistry.StartNginx(t, testregistry.CacheOptions{})
	w := &workloads[1] // nginx: the smallest
	im := s.push(w.image(t))
	var list string
	start := func(v variant, see func(string) error) count {
		t.Helper()
		proxy := newLine(t, s.server, "10.0.0.1:0", cache.Host, 0)
		v.registry = map[string]any{"host": origin.Address, "proxy": map[string]any{"url": "http://" + proxy.Address, "fallback": false}}
		before := origin.count()
		if _, err := s.lazily(im, w, v, see); err != nil {
			t.Fatal(err)
		}
		return origin.count().since(before)
	}
	for _, v := range []variant{{amplify: ordinary}, {amplify: ordinary, prefetch: lists}} {
		first := start(v, learn(t, &list))
		s.join(testns.NewHost(t, "host2"), loopback)
		second := start(v, nil)
		t.Logf("the first took %+v from the origin, the second %+v", first, second)
		if v.prefetch == nil && first.bytes < 1<<20 {
			t.Errorf("the first host took %d bytes from the origin: the test shows nothing", first.bytes)
		}
		if second.bytes != 0 || second.requests != 0 {
			t.Errorf("the second host took %+v from the origin", second)
		}
	}
}
