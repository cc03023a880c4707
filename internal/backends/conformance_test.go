package backends

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/internal/testfault"
	"vrafs/internal/testregistry"
	"vrafs/internal/teststore"
)

// TestEveryBackEndConforms, opened by its configuration, on a real server: straight, and
// through both caching proxies, past which nothing goes.
func TestEveryBackEndConforms(t *testing.T) {
	names := testfault.StartNames(t)
	names.Resolve(t)
	ways := []struct {
		name  string
		start func(testing.TB, testregistry.CacheOptions) *testregistry.Cache
	}{{"straight", nil}, {"nginx", testregistry.StartNginx}, {"squid", testregistry.StartSquid}}
	for _, kind := range teststore.Kinds() {
		for _, way := range ways {
			if way.start != nil && !kind.Remote {
				continue
			}
			t.Run(kind.Name+"/"+way.name, func(t *testing.T) {
				var cache *testregistry.Cache
				backendtest.RunPadded(t, kind.Unit, func(t *testing.T, blobs map[string][]byte) backend.Opener {
					s := kind.Start(t, blobs)
					if way.start != nil {
						// nginx is no tunnel: it puts into TLS what it is asked for without.
						o := testregistry.CacheOptions{Names: names.IP, TLS: way.name == "nginx" && strings.HasPrefix(s.URL, "https:")}
						cache = way.start(t, o)
						s = s.Through(cache.Host)
						if o.TLS {
							s.Section["proxy"].(map[string]any)["use_http"] = true
						}
					}
					return opened(t, s)
				})
				if cache != nil && cache.Served(t) == 0 {
					t.Error("nothing went through the proxy")
				}
			})
		}
	}
}

// opened opens a store until the test ends.
func opened(t *testing.T, s *teststore.Store) backend.Opener {
	t.Helper()
	section, err := json.Marshal(s.Section)
	if err != nil {
		t.Fatal(err)
	}
	o, release, err := Open(parsed(t, s.Type, string(section)), Options{Opener: opener.Local()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return o
}

// TestRefusalsSayWhatToCheck: each store says no to who has no key, or another.
func TestRefusalsSayWhatToCheck(t *testing.T) {
	names := testfault.StartNames(t)
	names.Resolve(t)
	for kind, keys := range map[string][2]string{
		"s3": {"access_key_id", "access_key_secret"}, "oss": {"access_key_id", "access_key_secret"},
		"registry with htpasswd": {"auth", "auth"}, "registry with tokens": {"auth", "auth"},
	} {
		k := teststore.Find(t, kind)
		const id = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
		s := k.Start(t, map[string][]byte{id: []byte("x")})
		for name, change := range map[string]map[string]any{
			"wrong secret": {keys[1]: "aHVudGVyMjpodW50ZXIy"},
			"anonymous":    {keys[0]: "", keys[1]: ""},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				b, err := opened(t, s.With(change)).Open(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				_, err = b.ReadAt(t.Context(), make([]byte, 1), 0)
				if !errors.Is(err, backend.ErrPermanent) {
					t.Fatalf("got %v, want class %v", err, backend.ErrPermanent)
				}
				if !regexp.MustCompile(`40[13] \w+; .*\b`+keys[0]+`\b`).MatchString(err.Error()) || strings.Contains(err.Error(), "aHVudGVyMjpodW50ZXIy") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
