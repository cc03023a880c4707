package oci

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"vrafs/internal/testregistry"
)

// TestCredentialsStayWithTheirRegistry: one that sends its clients elsewhere, for reading and
// for writing, as those do that keep blobs in an object store, does not send the login along.
func TestCredentialsStayWithTheirRegistry(t *testing.T) {
	const user, password, signature = "me", "hunter2hunter2", "s1gnature"
	s := testregistry.Start(t, testregistry.Options{User: user, Password: password})
	// The store is the registry itself under another name: it has the login, its clients not.
	var asked atomic.Int64
	var broken atomic.Bool
	store := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("%s %s came with %q", r.Method, r.URL.Path, got)
		}
		if r.URL.Query().Get("signature") != signature || broken.Load() {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}
		r.SetBasicAuth(user, password)
		return false
	})
	host := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/sha256:") || r.Method != http.MethodGet {
			return false
		}
		if name, word, ok := r.BasicAuth(); !ok || name != user || word != password {
			return false // which the registry refuses
		}
		http.Redirect(w, r, "http://"+store+r.URL.Path+"?signature="+signature, http.StatusTemporaryRedirect)
		return true
	})
	access := Access{Username: user, Password: password}
	src, dst := parted(t), parse(t, host+"/some/repo:tag")
	_, err := Copy(t.Context(), src, dst, CopyOptions{To: access})
	must(t, err)
	im := whole(t, dst, Options{Access: access})
	if want := whole(t, src, Options{}).Desc.Digest; im.Desc.Digest != want || asked.Load() < 3 {
		t.Errorf("image %s, want %s; the store was asked %d times", im.Desc.Digest, want, asked.Load())
	}
	broken.Store(true)
	_, err = im.Open(t.Context(), im.Manifest.Layers[0])
	if err == nil || strings.Contains(err.Error(), signature) || strings.Contains(err.Error(), password) || !strings.Contains(err.Error(), store) {
		t.Errorf("a store that refuses: %v", err)
	}
}

// TestUploadsGoWhereTheRegistryWants without the login, where that is another host.
func TestUploadsGoWhereTheRegistryWants(t *testing.T) {
	const user, password = "me", "hunter2hunter2"
	s := testregistry.Start(t, testregistry.Options{User: user, Password: password})
	var asked atomic.Int64
	store := testregistry.Proxy(t, s.URL, func(_ http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("%s %s came with %q", r.Method, r.URL.Path, got)
		}
		r.SetBasicAuth(user, password)
		return false
	})
	target, err := url.Parse(s.URL)
	must(t, err)
	front := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
		ModifyResponse: func(r *http.Response) error {
			if at, err := r.Location(); err == nil && strings.Contains(at.Path, "/blobs/uploads/") {
				at.Scheme, at.Host = "http", store
				r.Header.Set("Location", at.String())
			}
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	h := httptest.NewServer(front)
	defer h.Close()
	access := Access{Username: user, Password: password}
	src, dst := parted(t), parse(t, strings.TrimPrefix(h.URL, "http://")+"/some/repo:tag")
	_, err = Copy(t.Context(), src, dst, CopyOptions{To: access})
	must(t, err)
	if want := whole(t, src, Options{}).Desc.Digest; whole(t, dst, Options{Access: access}).Desc.Digest != want || asked.Load() < 4 {
		t.Errorf("the store was asked %d times", asked.Load())
	}
}

// TestCertificatesAreShownToRegistriesThatWantThem, out of a directory as Docker has it.
func TestCertificatesAreShownToRegistriesThatWantThem(t *testing.T) {
	back := testregistry.Start(t, testregistry.Options{})
	target, err := url.Parse(back.URL)
	must(t, err)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }})
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	// The server's own certificate serves as the client's.
	own := front.TLS.Certificates[0]
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	must(t, err)
	front.TLS.ClientCAs = x509.NewCertPool()
	front.TLS.ClientCAs.AddCert(leaf)
	front.TLS.ClientAuth = tls.RequireAnyClientCert
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	must(t, err)
	dir := t.TempDir()
	save := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	save("server.crt", "CERTIFICATE", own.Certificate[0])
	src, dst := parted(t), parse(t, strings.TrimPrefix(front.URL, "https://")+"/some/repo:tag")
	if _, err := Copy(t.Context(), src, dst, CopyOptions{To: Access{CertDir: dir}}); err == nil {
		t.Error("nothing was shown, and the copy succeeds")
	}
	save("client.cert", "CERTIFICATE", own.Certificate[0])
	if _, err := Copy(t.Context(), src, dst, CopyOptions{To: Access{CertDir: dir}}); err == nil || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("a certificate without its key: %v", err)
	}
	save("client.key", "PRIVATE KEY", key)
	_, err = Copy(t.Context(), src, dst, CopyOptions{To: Access{CertDir: dir}})
	must(t, err)
}

// TestAnswersOfTokenServersAreNotShown: what is in them may be a secret.
func TestAnswersOfTokenServersAreNotShown(t *testing.T) {
	tokens := testregistry.StartTokens(t, testregistry.TokenSettings{Shape: "secret_token"})
	tokens.URL = strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
	s := testregistry.Start(t, testregistry.Options{Tokens: tokens})
	_, err := Resolve(t.Context(), parse(t, s.Host+"/a/b:c"), Options{})
	if err == nil || strings.Contains(err.Error(), "secret_token") || !strings.Contains(err.Error(), "no token") {
		t.Errorf("got %v", err)
	}
}
