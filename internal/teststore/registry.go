package teststore

import (
	"testing"

	"vrafs/internal/testregistry"
)

const (
	user     = "user"
	password = "hunter2hunter2"
	// repo is below the user's name, as the token server wants it.
	repo = user + "/image"
)

// registry keeps blobs in docker-registry.
func registry(set func(testing.TB, *testregistry.Options)) func(testing.TB, map[string][]byte) *Store {
	return func(t testing.TB, blobs map[string][]byte) *Store {
		t.Helper()
		var o testregistry.Options
		set(t, &o)
		s := testregistry.Start(t, o)
		for id, data := range blobs {
			if got := s.Push(t, repo, data); got != id {
				t.Fatalf("blob %s was stored as %s", id, got)
			}
		}
		store := Registry(s, repo)
		if o.TLS {
			store.Section["scheme"], store.Section["ca_cert_files"] = "https", []string{s.CAFile}
		}
		if o.User != "" || o.Tokens != nil {
			auth := testregistry.Auth(user, password)
			store.Section["auth"], store.Secrets = auth, []string{auth, password}
		}
		return store
	}
}

// Registry is a repository of a registry that lets in everybody.
func Registry(s *testregistry.Server, repo string) *Store {
	return &Store{Type: "registry", URL: s.URL, address: "host", Section: map[string]any{"scheme": "http", "host": s.Host, "repo": repo}}
}
