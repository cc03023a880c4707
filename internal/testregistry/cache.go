package testregistry

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// nginxConfig is a caching forward proxy that asks for fixed, aligned ranges of 1
// MiB, as Dragonfly does. It adds a header that says so to what it asks for.
const nginxConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr notice;
events {}
http {
	access_log off;
	proxy_cache_path %[1]s/cache keys_zone=blobs:1m;
	proxy_temp_path %[1]s/proxy; client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / {
			slice 1m;
			proxy_cache blobs;
			proxy_cache_key $http_host$uri$slice_range;
			proxy_cache_valid 200 206 1h;
			proxy_set_header Range $slice_range;
			proxy_set_header Host $http_host;
			proxy_set_header Via "1.1 nginx";
			proxy_http_version 1.1;
			proxy_pass http://$http_host$request_uri;
		}
	}
}
`

// StartCache runs nginx as a caching forward proxy until the test ends, and returns its
// name and port.
func StartCache(t testing.TB) string {
	t.Helper()
	testenv.Need(t, testenv.Nginx)
	dir, host := t.TempDir(), FreePort(t)
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, fmt.Appendf(nil, nginxConfig, dir, host))
	cmd := exec.Command(testenv.Program("nginx"), "-c", config, "-e", "stderr")
	// It listens before it says which method of events it uses.
	spawn(t, cmd, func(line string) bool { return strings.Contains(line, "using the") })
	return host
}

// FreePort is an address that was free a moment ago.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
