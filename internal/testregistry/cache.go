package testregistry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// nginxConfig is a caching forward proxy, as a rule one that asks for fixed, aligned
// ranges of 1 MiB. It adds a header that says so to what it asks for.
const nginxConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr notice;
events {}
http {
	access_log %[1]s/log;
	proxy_cache_path %[1]s/cache keys_zone=blobs:1m;
	proxy_temp_path %[1]s/proxy; client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	%[3]s
	server {
		listen %[2]s;
		location / {
			%[5]s
			proxy_cache blobs;
			proxy_cache_key $http_host$uri$%[6]s;
			proxy_cache_valid 200 206 1h;
			proxy_set_header Range $%[6]s;
			proxy_set_header Host $http_host;
			proxy_set_header Via "1.1 nginx";
			proxy_http_version 1.1;
			proxy_ssl_server_name on;
			proxy_pass %[4]s://$http_host$request_uri;
		}
	}
}
`

// squidConfig is a caching forward proxy that fetches blobs whole, whatever range is
// asked for. It connects to any port for requests that it can't read (CONNECT).
const squidConfig = `
http_port %[2]s
pid_filename none
access_log stdio:%[1]s/log
cache_store_log none
pinger_enable off
netdb_filename none
coredump_dir %[1]s
shutdown_lifetime 0 seconds
cache_mem 64 MB
maximum_object_size 64 MB
maximum_object_size_in_memory 64 MB
range_offset_limit none
quick_abort_min -1 KB
http_access allow all
%[3]s
`

// A Cache is a caching forward proxy.
type Cache struct {
	Host string // 127.0.0.1:port
	log  string
}

// CacheOptions choose one. The zero value knows no names, and asks by plain HTTP.
type CacheOptions struct {
	// Names is the IP address of the name server that it asks; or empty.
	Names string
	// TLS asks by https for what it was asked by http. For nginx only.
	TLS bool
	// Exact asks for the ranges that it is asked for, and shares one only with those who
	// ask for the very same, as Dragonfly does. For nginx only.
	Exact bool
}

// StartCache runs nginx as a caching forward proxy until the test ends, and returns its
// name and port.
func StartCache(t testing.TB) string {
	t.Helper()
	return StartNginx(t, CacheOptions{}).Host
}

// StartNginx runs nginx as a caching forward proxy until the test ends.
func StartNginx(t testing.TB, o CacheOptions) *Cache {
	t.Helper()
	testenv.Need(t, testenv.Nginx)
	names, scheme := "", "http"
	if o.Names != "" {
		names = "resolver " + o.Names + " ipv6=off;"
	}
	if o.TLS {
		scheme = "https"
	}
	slice, span := "slice 1m;", "slice_range"
	if o.Exact {
		slice, span = "", "http_range"
	}
	c := newCache(t)
	config := filepath.Join(filepath.Dir(c.log), "nginx.conf")
	write(t, config, fmt.Appendf(nil, nginxConfig, filepath.Dir(c.log), c.Host, names, scheme, slice, span))
	cmd := exec.Command(testenv.Program("nginx"), "-c", config, "-e", "stderr")
	// It listens before it says which method of events it uses.
	spawn(t, cmd, func(line string) bool { return strings.Contains(line, "using the") })
	return c
}

// StartSquid runs squid as a caching forward proxy until the test ends.
func StartSquid(t testing.TB, o CacheOptions) *Cache {
	t.Helper()
	testenv.Need(t, testenv.Squid)
	names := ""
	if o.Names != "" {
		names = "dns_nameservers " + o.Names
	}
	c := newCache(t)
	dir := filepath.Dir(c.log)
	config := filepath.Join(dir, "squid.conf")
	// Started by root it becomes another user, who has to write the log.
	write(t, config, fmt.Appendf(nil, squidConfig, dir, c.Host, names))
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.Program("squid"), "-N", "-d", "1", "-f", config)
	spawn(t, cmd, func(line string) bool { return strings.Contains(line, "Accepting HTTP Socket connections") })
	return c
}

func newCache(t testing.TB) *Cache {
	t.Helper()
	dir, err := os.MkdirTemp("", "vrafs-cache-") // t.TempDir's are below one that is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &Cache{Host: FreePort(t), log: filepath.Join(dir, "log")}
}

// Served is the number of requests that went through the cache and have ended.
func (c *Cache) Served(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(c.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
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
