package httprange

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/internal/opener"
)

func TestCertificatesAreChecked(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(files))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	p := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, p, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		opt  Options
		ok   bool
	}{
		{"unknown authority", Options{}, false},
		{"its own file", Options{CAFiles: []string{ca}}, true},
		{"skip_verify", Options{SkipVerify: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client(t, tt.opt).Range(t.Context(), address(t, s.URL), "", Into(make([]byte, 4)), 8)
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && (!errors.Is(err, backend.ErrPermanent) || !strings.Contains(err.Error(), "ca_cert_files")) {
				t.Errorf("got %v, want a permanent error with a remedy", err)
			}
		})
	}
}

func TestNewRefusesFilesWithoutCertificates(t *testing.T) {
	dir := t.TempDir()
	empty, large := filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A part of a file would be an authority too few, which nobody notices here.
	s := httptest.NewTLSServer(http.HandlerFunc(files))
	t.Cleanup(s.Close)
	p := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(large, bytes.Repeat(p, maxCABytes/len(p)+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{empty, large, dir, filepath.Join(dir, "missing")} {
		if _, err := New(opener.Local(), Options{CAFiles: []string{name}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestPlainTextIsRecognized(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(files))
	u := address(t, strings.Replace(s.URL, "http:", "https:", 1))
	c := client(t, Options{ConnectTimeout: time.Minute})
	_, spoke := c.Range(t.Context(), u, "", Into(make([]byte, 4)), 0)
	s.Close()
	_, refused := c.Range(t.Context(), u, "", Into(make([]byte, 4)), 0)
	if !PlainText(spoke) || !PlainText(refused) {
		t.Errorf("got %v and %v", spoke, refused)
	}
	if PlainText(errTimeout) {
		t.Error("a stall looks like plain HTTP")
	}
}

func TestErrorsAreOneBoundedLine(t *testing.T) {
	err := failure(t.Context(), "h", errors.New("first\nsecond\x1b[31m"+strings.Repeat("é", maxCause)))
	if s := err.Error(); strings.ContainsAny(s, "\n\x1b") || len(s) > maxCause+100 {
		t.Errorf("got %q", s)
	}
}

func TestServersMayAskForPatience(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "Fri, 31 Dec 1999 23:59:59 GMT": 0, "4000000000": maxAfter} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}
