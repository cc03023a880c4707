package backends

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"vrafs/internal/testregistry"
)

// TestOneHelperServesAllMounts: by the key of a configuration, or by that of the process.
func TestOneHelperServesAllMounts(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{User: "user", Password: "hunter2"})
	id := s.Push(t, repo, payload)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var asked atomic.Int64
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			request, _ := io.ReadAll(bufio.NewReader(conn))
			if asked.Add(1); !strings.Contains(string(request), `"image":"`+s.Host+"/"+repo+`"`) {
				t.Errorf("asked %s", request)
			}
			fmt.Fprintf(conn, `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry",
				"cacheDuration":"1h","auth":{%q:{"username":"user","password":"hunter2"}}}`, s.Host)
			_ = conn.Close()
		}
	}()
	for _, tt := range []struct {
		name, key string
		n         *Network
	}{
		{"of the configuration", fmt.Sprintf(`,"credential_helper":%q`, socket), &Network{CredentialHelper: "/missing"}},
		{"of the process", "", &Network{CredentialHelper: socket}},
	} {
		asked.Store(0)
		for _, auth := range []string{"", testregistry.Auth("user", "stale")} {
			section := fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"auth":%q%s}`, s.Host, repo, auth, tt.key)
			readPayload(t, t.Context(), openBlob(t, "registry", section, id, tt.n))
		}
		if asked.Load() != 1 {
			t.Errorf("%s: asked %d times for two mounts", tt.name, asked.Load())
		}
	}
}
