package workload

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
	"vrafs/internal/testregistry"
)

// A link is what is between a registry and a host.
type link struct {
	rate  uint64 // bytes a second; 0 for what the machine can
	delay time.Duration
}

var (
	slow     = link{rate: 10_000_000, delay: 10 * time.Millisecond} // one way: 20 ms to and fro
	loopback = link{}
)

// repo is where everything lies in the registry.
const repo = "library/app"

// A stage is a registry and a host that reaches it over a link.
type stage struct {
	t        testing.TB
	dir      string
	registry *testregistry.Server
	server   *testns.Host // at the other end of the link
	host     *testns.Host
	line     *line
	http     *http.Client // on the host
}

func newStage(t testing.TB, l link) *stage {
	t.Helper()
	testenv.Need(t, needed...)
	dir, err := os.MkdirTemp("", "w") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &stage{t: t, dir: dir, registry: testregistry.Start(t, testregistry.Options{})}
	s.join(testns.NewHost(t, "host"), l)
	return s
}

// join makes a host the one of the stage, with a link to the registry.
func (s *stage) join(host *testns.Host, l link) {
	s.t.Helper()
	s.server = testns.NewHost(s.t, "srv")
	s.host = host
	(&testns.Wire{A: s.server, B: host, AtA: "10.0.0.1/24", AtB: "10.0.0.2/24", Rate: l.rate}).Connect(s.t)
	s.line = newLine(s.t, s.server, "10.0.0.1:5000", s.registry.Host, l.delay)
	transport := &http.Transport{DialContext: host.Dial}
	s.t.Cleanup(transport.CloseIdleConnections)
	s.http = &http.Client{Transport: transport}
}

// url is where the host finds a blob.
func (s *stage) url(id string) string {
	return fmt.Sprintf("http://%s/v2/%s/blobs/sha256:%s", s.line.Address, repo, id)
}

// fetch reads a blob whole, on the host.
func (s *stage) fetch(ctx context.Context, id string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(id), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// programs are built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/vrafs", "./cmd/vrafsd")
	cmd.Dir, cmd.Env = testenv.ModuleRoot(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return dir, nil
})

// program is the path of one of our programs.
func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
