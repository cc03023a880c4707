package s3

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id     = "AKIAEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	prefix = "images/a b+"
)

// start runs versitygw over a directory with one bucket until the test ends, and
// returns its name and port.
func start(t *testing.T, blobs map[string][]byte) string {
	t.Helper()
	testenv.Need(t, testenv.Versitygw)
	dir, host := t.TempDir(), testregistry.FreePort(t)
	for name, data := range blobs {
		path := filepath.Join(dir, "bucket", prefix+name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(testenv.Peer("versitygw"), "--access", id, "--secret", secret, "--region", "eu-test", "--port", host, "posix", "--nometa", dir)
	testregistry.Run(t, cmd)
	await(t, host)
	return host
}

// await returns once somebody listens: what versitygw prints comes before that.
func await(t *testing.T, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("versitygw does not start: %v", err)
		}
	}
}

func open(t *testing.T, host string, change func(*Options)) *httprange.Store {
	t.Helper()
	opt := Options{Scheme: "http", Endpoint: host, Region: "eu-test", Bucket: "bucket", Prefix: prefix, AccessKeyID: id, AccessKeySecret: secret}
	if change != nil {
		change(&opt)
	}
	s, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener { return open(t, start(t, blobs), nil) })
}

func TestRefusalsSayWhatToCheck(t *testing.T) {
	host := start(t, map[string][]byte{"blob": []byte("x")})
	for name, change := range map[string]func(*Options){
		"wrong secret": func(o *Options) { o.AccessKeySecret = "hunter2" },
		"anonymous":    func(o *Options) { o.AccessKeyID, o.AccessKeySecret = "", "" },
	} {
		b, err := open(t, host, change).Open(t.Context(), "blob")
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.ReadAt(t.Context(), make([]byte, 1), 0)
		if !errors.Is(err, backend.ErrPermanent) || !strings.Contains(err.Error(), "403 Forbidden; check access_key_id") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		_ = b.Close()
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, opt := range []Options{{Scheme: "ftp", Endpoint: "h", Bucket: "b"}, {Scheme: "http", Bucket: "b"}, {Scheme: "http", Endpoint: "h"}} {
		if _, err := New(opener.Local(), opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
}
