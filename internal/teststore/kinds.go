package teststore

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testregistry"
)

// A Kind is one way to keep blobs.
type Kind struct {
	Name string
	// Remote says that blobs are read over HTTP, so that a proxy may be on the way.
	Remote bool
	// Names says that it is reached by a name that testfault.Names knows.
	Names bool
	// Unit is what blobs are filled up to with zeros, in bytes.
	Unit  int
	start func(t testing.TB, blobs map[string][]byte) *Store
}

// A Store is a running one.
type Store struct {
	// Type and Section are what a configuration says about it.
	Type    string
	Section map[string]any
	// URL is where its server is, as scheme://name:port; or empty.
	URL string
	// Secrets must show nowhere.
	Secrets []string
	address string // the section's key for host and port
	keys    keyring
}

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{
		{Name: "localfs", Unit: 1, start: localFS},
		{Name: "localdisk", Unit: 512, start: localDisk},
		{Name: "registry", Remote: true, Unit: 1, start: registry(func(testing.TB, *testregistry.Options) {})},
		{Name: "registry with TLS", Remote: true, Unit: 1, start: registry(func(_ testing.TB, o *testregistry.Options) { o.TLS = true })},
		{Name: "registry with htpasswd", Remote: true, Unit: 1, start: registry(func(_ testing.TB, o *testregistry.Options) { o.User, o.Password = user, password })},
		{Name: "registry with tokens", Remote: true, Unit: 1, start: registry(func(t testing.TB, o *testregistry.Options) {
			o.Tokens = testregistry.StartTokenServer(t, testregistry.TokenServerOptions{User: user, Password: password})
		})},
		{Name: "s3", Remote: true, Unit: 1, start: s3},
		{Name: "s3 by the bucket's name", Remote: true, Names: true, Unit: 1, start: s3Virtual},
		{Name: "oss with a session", Remote: true, Names: true, Unit: 1, start: ossSession},
		{Name: "oss", Remote: true, Names: true, Unit: 1, start: oss},
		{Name: "http-proxy", Remote: true, Unit: 1, start: web},
		{Name: "http-proxy by socket", Unit: 1, start: webSocket},
	}
}

// Find is the kind of that name.
func Find(t testing.TB, name string) Kind {
	t.Helper()
	for _, k := range Kinds() {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no kind of store is called %q", name)
	return Kind{}
}

// Start keeps blobs until the test ends. Their ids are their SHA-256.
func (k *Kind) Start(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	return k.start(t, blobs)
}

// StartDir is Start for the blobs of a directory, in files named by their ids.
func (k *Kind) StartDir(t testing.TB, dir string) *Store {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d blobs in %s, %v", len(entries), dir, err)
	}
	blobs := map[string][]byte{}
	for _, e := range entries {
		if blobs[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return k.start(t, blobs)
}

// With is the same store with more in its section.
func (s *Store) With(more map[string]any) *Store {
	section := map[string]any{}
	for _, m := range []map[string]any{s.Section, more} {
		for k, v := range m {
			section[k] = v
		}
	}
	changed := *s
	changed.Section = section
	return &changed
}

// Through is the same store, read through the forward proxy at host and in no other way.
func (s *Store) Through(host string) *Store {
	return s.With(map[string]any{"proxy": map[string]any{"url": "http://" + host, "fallback": false}})
}

// At is the same store behind another server, at 127.0.0.1:port, that speaks plain HTTP.
func (s *Store) At(host string) *Store {
	switch s.address {
	case "addr":
		return s.With(map[string]any{"addr": "http://" + host})
	case "endpoint":
		if s.Type == "oss" {
			_, port, _ := net.SplitHostPort(host)
			host = net.JoinHostPort(ossName, port)
		}
	}
	return s.With(map[string]any{s.address: host, "scheme": "http"})
}
