package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
)

const (
	registryAddress = "127.0.0.1:5000"
	image           = registryAddress + "/app:v1"
	containerdSock  = "/run/containerd.sock"
	snapshotterSock = "/run/nydus/grpc.sock"
	systemSock      = "/run/nydus/system.sock"
)

const registryConfig = `version: 0.1
storage: {filesystem: {rootdirectory: %[1]s/registry}}
http: {addr: ` + registryAddress + `}
`

const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
[grpc]
address = "` + containerdSock + `"
[proxy_plugins.nydus]
type = "snapshot"
address = "` + snapshotterSock + `"
`

const daemonConfig = `{"device": {
	"backend": %[2]s,
	"cache": {"type": "blobcache", "config": {"work_dir": "%[1]s/cache"}}},
	"mode": "direct", "digest_validate": false, "enable_xattr": true, "fs_prefetch": {"enable": false}}
`

// backends are where daemons have chunks from. The snapshotter adds to the
// registry's what it knows of an image.
var backends = map[string]string{
	"localfs":  `{"type": "localfs", "config": {"dir": "%[1]s/blobs"}}`,
	"registry": `{"type": "registry", "config": {"scheme": "http", "timeout": 5, "connect_timeout": 5, "retry_limit": 2}}`,
	// With this the snapshotter, too, speaks plain HTTP.
	"registry without TLS": `{"type": "registry", "config": {"scheme": "http", "skip_verify": true, "timeout": 5, "connect_timeout": 5, "retry_limit": 2}}`,
}

const snapshotterConfig = `version = 1
root = "%[1]s/nydus"
address = "` + snapshotterSock + `"
daemon_mode = "%[2]s"
[system]
enable = true
address = "` + systemSock + `"
[daemon]
nydusd_config = "%[1]s/nydusd.json"
nydusd_path = "%[1]s/nydusd"
nydusimage_path = "%[3]s"
fs_driver = "fusedev"
recover_policy = "%[4]s"
threads_number = 4
failover_policy = "resend"
[cgroup]
enable = false
[log]
log_to_stdout = true
level = "info"
[metrics]
address = ""
[snapshot]
sync_remove = true
[cache_manager]
disable = false
cache_dir = "%[1]s/cache"
`

// A stage is a host with everything that runs on it.
type stage struct {
	t           *testing.T
	dir         string
	conv        *conversion
	registry    *server
	containerd  *server
	snapshotter *server
}

// newStage starts everything, with our image in the registry.
func newStage(t *testing.T, mode, policy, backend string) *stage {
	t.Helper()
	return raise(t, backend, func(s *stage) string {
		return fmt.Sprintf(snapshotterConfig, s.dir, mode, program(t, "nydus-image"), policy)
	})
}

// raise is newStage with any configuration of the snapshotter.
func raise(t *testing.T, backend string, snapshotter func(s *stage) string) *stage {
	t.Helper()
	testenv.Need(t, needed...)
	testenv.Long(t)
	dir, err := os.MkdirTemp("", "s") // t.TempDir's names are too long for sockets
	must(t, err)
	s := &stage{t: t, dir: dir, conv: convert(t, [][]byte{programLayer(t), dataLayer(t)})}
	must(t, os.Rename(s.conv.blobs(), s.path("blobs")), os.Symlink(s.path("blobs"), s.conv.blobs()),
		os.Mkdir(s.path("cache"), 0o755), os.Symlink(program(t, "vrafsd"), s.path("nydusd")))
	for name, text := range map[string]string{
		"registry.yml":    fmt.Sprintf(registryConfig, dir),
		"containerd.toml": fmt.Sprintf(containerdConfig, dir),
		"nydusd.json":     fmt.Sprintf(daemonConfig, dir, strings.ReplaceAll(backends[backend], "%[1]s", dir)),
		"nydus.toml":      snapshotter(s),
	} {
		must(t, os.WriteFile(s.path(name), []byte(text), 0o600))
	}
	t.Cleanup(s.end)
	s.registry = serve(t, s.path("registry.log"), exec.Command(testenv.Program("docker-registry"), "serve", s.path("registry.yml")))
	s.containerd = serve(t, s.path("containerd.log"), s.withPath(testenv.Program("containerd"), "-c", s.path("containerd.toml")))
	s.startSnapshotter()
	until(t, "registry", dialled("tcp", registryAddress))
	until(t, "containerd", dialled("unix", containerdSock))
	s.conv.push(t, "http://"+registryAddress, "app", "v1")
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// withPath is a command whose children find programs in the places of root's.
func (s *stage) withPath(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin",
		"CONTAINERD_ADDRESS="+containerdSock, "CONTAINERD_NAMESPACE="+testns.Name())
	return cmd
}

func (s *stage) startSnapshotter() {
	s.t.Helper()
	s.snapshotter = serve(s.t, s.path("nydus.log"), exec.Command(testenv.Peer("containerd-nydus-grpc"), "--config", s.path("nydus.toml")))
	until(s.t, "nydus-snapshotter", dialled("unix", snapshotterSock))
	until(s.t, "nydus-snapshotter's system API", dialled("unix", systemSock))
}

func dialled(network, address string) func() error {
	return func() error {
		c, err := net.Dial(network, address)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
}

// end stops everything that has run for the stage. Shims and containers are the
// children of none of the servers.
func (s *stage) end() {
	for _, p := range []*server{s.snapshotter, s.containerd, s.registry} {
		if p != nil {
			p.report()
			p.kill()
		}
	}
	for _, name := range []string{program(s.t, "vrafsd"), testenv.Program("containerd-shim-runc-v2")} {
		for _, pid := range running(s.t, name) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	unmountBelow(s.t, s.dir)
	unmountBelow(s.t, "/run")
	for _, sock := range []string{containerdSock, snapshotterSock, systemSock} {
		_ = os.Remove(sock)
	}
	must(s.t, os.RemoveAll(s.dir))
}

// ctr runs containerd's client.
func (s *stage) ctr(args ...string) string {
	s.t.Helper()
	return output(s.t, s.withPath(testenv.Program("ctr"), args...))
}

// pull pulls the image lazily.
func (s *stage) pull() {
	s.t.Helper()
	output(s.t, s.withPath(testenv.Program("ctr-remote"), "images", "rpull", "--plain-http", "--snapshotter", "nydus", image))
}

// A daemon is what nydus-snapshotter says of one.
type daemon struct {
	ID        string         `json:"id"`
	PID       int            `json:"pid"`
	API       string         `json:"api_socket"`
	Place     string         `json:"mountpoint"`
	Instances map[string]any `json:"instances"`
}

// daemons asks the snapshotter what runs.
func (s *stage) daemons() (list []daemon) {
	s.t.Helper()
	text := s.system(http.MethodGet, "/api/v1/daemons", "")
	must(s.t, json.Unmarshal([]byte(text), &list))
	return list
}

// daemon is the only one.
func (s *stage) daemon() daemon {
	s.t.Helper()
	list := s.daemons()
	if len(list) != 1 {
		s.t.Fatalf("%d daemons, want one: %+v", len(list), list)
	}
	return list[0]
}

// system sends a request to the snapshotter's system API.
func (s *stage) system(method, path, body string) string {
	s.t.Helper()
	text, err := askUnix(s.t.Context(), systemSock, method, path, body)
	must(s.t, err)
	return text
}

// askUnix sends a request over a socket; its answer must be a success.
func askUnix(ctx context.Context, sock, method, path, body string) (string, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", sock)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://unix"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return string(text), err
}

// state is where a daemon is in its life; an error while it does not answer.
func (d *daemon) state(ctx context.Context) (string, error) {
	text, err := askUnix(ctx, d.API, http.MethodGet, "/api/v1/daemon", "")
	if err != nil {
		return "", err
	}
	var info struct {
		State string `json:"state"`
	}
	return info.State, json.Unmarshal([]byte(text), &info)
}
