package teststore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
)

// What object stores are asked with. The prefix has what must be escaped.
const (
	keyID   = "AKIAEXAMPLE"
	secret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	bucket  = "bucket"
	prefix  = "images/a b+"
	region  = "eu-test"
	session = "FwoGZXIvYXdzEBYaDExample/+="
	// These are names that testfault.Names knows, with the bucket's in front of them.
	ossName = "oss.test"
	s3Name  = "s3.test"
)

func objects(kind, endpoint string, k keyring) *Store {
	return &Store{Type: kind, address: "endpoint", Secrets: []string{secret}, keys: k, Section: map[string]any{
		"scheme": "http", "endpoint": endpoint, "bucket_name": bucket, "object_prefix": prefix, "access_key_id": keyID, "access_key_secret": secret,
	}}
}

// s3 keeps blobs in versitygw.
func s3(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	s, _ := versitygw(t, blobs)
	return s
}

// s3Virtual is s3 with the bucket's name in front of the server's.
func s3Virtual(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	s, port := versitygw(t, blobs, "--virtual-domain", s3Name)
	return s.With(map[string]any{"endpoint": net.JoinHostPort(s3Name, port), "addressing_style": "virtual"})
}

// versitygw is one that runs, with its port.
func versitygw(t testing.TB, blobs map[string][]byte, more ...string) (s *Store, port string) {
	t.Helper()
	testenv.Need(t, testenv.Versitygw)
	dir, host := t.TempDir(), testregistry.FreePort(t)
	for id, data := range blobs {
		path := filepath.Join(dir, bucket, prefix+id)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	users := gateway{url: "http://" + host}
	args := append([]string{"--access", rootID, "--secret", rootSecret, "--region", region, "--port", host, "--iam-dir", t.TempDir(), "--iam-cache-disable"}, more...)
	cmd := exec.Command(testenv.Peer("versitygw"), append(args, "posix", "--nometa", dir)...)
	testregistry.Run(t, cmd)
	testregistry.Await(t, host)
	users.add(t, Keys{ID: keyID, Secret: secret})
	s = objects("s3", host, users)
	s.URL, s.Section["region"] = "http://"+host, region
	_, port, _ = net.SplitHostPort(host)
	return s, port
}

// ossSession is oss for keys that belong to a session.
func ossSession(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	s := startOSS(t, blobs, Keys{ID: keyID, Secret: secret, Token: session})
	s.Secrets = append(s.Secrets, session)
	return s.With(map[string]any{"security_token": session})
}

// oss keeps blobs in a server of the tests' own.
func oss(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	return startOSS(t, blobs, Keys{ID: keyID, Secret: secret})
}

func startOSS(t testing.TB, blobs map[string][]byte, k Keys) *Store {
	t.Helper()
	o := &ossServer{blobs: blobs, keys: map[string]Keys{k.ID: k}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := objects("oss", net.JoinHostPort(ossName, u.Port()), o)
	s.URL = server.URL
	return s
}

// An ossServer serves the objects of one bucket to who signs requests, with version 1 of
// OSS's signature.
type ossServer struct {
	blobs map[string][]byte

	mu   sync.Mutex
	keys map[string]Keys // that are let in, by id
}

func (s *ossServer) add(_ testing.TB, k Keys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ID] = k
}

func (s *ossServer) remove(_ testing.TB, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

// signedWith are the keys that a request names.
func (s *ossServer) signedWith(r *http.Request) (k Keys, known bool) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "OSS "), ":")
	s.mu.Lock()
	defer s.mu.Unlock()
	k, known = s.keys[id]
	return k, known
}

// maxSkew is how far a request's clock may be off.
const maxSkew = 15 * time.Minute

func (s *ossServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	asked, endpoint, _ := strings.Cut(host, ".")
	data, found := s.blobs[strings.TrimPrefix(r.URL.Path, "/"+prefix)]
	k, known := s.signedWith(r)
	date, err := time.Parse(http.TimeFormat, r.Header.Get("Date"))
	switch {
	case asked != bucket || endpoint != ossName:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Header.Get("Authorization") == "":
		refuse(w, http.StatusForbidden, "AccessDenied")
	case err != nil || time.Since(date).Abs() > maxSkew:
		refuse(w, http.StatusForbidden, "RequestTimeTooSkewed")
	case !known || k.Token != r.Header.Get("X-Oss-Security-Token"):
		refuse(w, http.StatusForbidden, "InvalidAccessKeyId")
	case !hmac.Equal([]byte(r.Header.Get("Authorization")), []byte("OSS "+k.ID+":"+ossSignature(r, k.Secret))):
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	case !found:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code></Error>", code)
}

// ossSignature is that of a request with no x-oss- header but that of a session, and
// without subresources.
func ossSignature(r *http.Request, secret string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	for _, field := range []string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), r.Header.Get("Date")} {
		mac.Write([]byte(field + "\n"))
	}
	if token := r.Header.Get("X-Oss-Security-Token"); token != "" {
		mac.Write([]byte("x-oss-security-token:" + token + "\n"))
	}
	mac.Write([]byte("/" + bucket + r.URL.Path))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
