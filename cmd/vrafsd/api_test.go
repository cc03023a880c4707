package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// errorText is the message of an error answer, whose code is always UNDEFINED.
func errorText(t *testing.T, body string) string {
	t.Helper()
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Code != "UNDEFINED" || e.Message == "" {
		t.Errorf("error body %q, %v", body, err)
	}
	return e.Message
}

// TestSecretsShowNowhere: credentials of configurations are in no answer and in no
// line of the log.
func TestSecretsShowNowhere(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--log-level", "trace").ready()
	im := smallImage(t)
	// The base64 texts decode to user:hunter2pw.
	secrets := []string{"hunter2pw", "dXNlcjpodW50ZXIycHc", "toKen-secret", "aKey-secret", "keyId-secret", "ca11ab1e"}
	cache := `,"cache":{"type":"blobcache","config":{"work_dir":"` + im.cache + `"}}`
	for i, backend := range []string{
		`{"type":"registry","config":{"host":"r","repo":"a/b","auth":"dXNlcjpodW50ZXIycHc=","registry_token":"toKen-secret","proxy":{"url":"http://user:hunter2pw@proxy:1"}}}`,
		`{"type":"s3","config":{"endpoint":"e","region":"r","bucket_name":"b","access_key_id":"keyId-secret","access_key_secret":"aKey-secret"}}`,
		`{"type":"oss","config":{"endpoint":"e","bucket_name":"b","access_key_id":"keyId-secret","access_key_secret":"aKey-secret"}}`,
		`{"type":"registry","config":{"host":1,"repo":"a/b","auth":"dXNlcjpodW50ZXIycHc="}}`,
		`{"type":"registry","config":{"host":"r","repo":"a/b","auth":"hunter2pw!"}}`,
	} {
		config := `{"device":{"id":"` + fmt.Sprint(i) + `","backend":` + backend + cache + `},"mode":"direct"}`
		_, body := p.ask("POST", fmt.Sprintf("/api/v1/mount?mountpoint=/%d", i), im.mountBody(config))
		checkClean(t, body, secrets)
	}
	encrypted := `{"version":2,"backend":{"type":"localfs","localfs":{"dir":"` + im.BlobDir + `"}},"cache":{"type":"filecache","filecache":{"work_dir":"` + im.cache + `","encryption_key":"ca11ab1e"}}}`
	p.must(204, "POST", "/api/v1/mount?mountpoint=/enc", im.mountBody(encrypted))
	p.must(204, "PUT", "/api/v1/config?id=/enc", `{"registry_auth":"dXNlcjpodW50ZXIycHc="}`)
	for _, target := range []string{"/api/v1/daemon", "/api/v2/daemon", "/api/v1/daemon/events", "/api/v1/metrics?id=/enc", "/api/v1/metrics/blobcache",
		"/api/v1/metrics/backend?id=/enc", "/api/v1/daemon/backend?mountpoint=/enc", "/metrics"} {
		_, body := p.ask("GET", target, "")
		checkClean(t, body, secrets)
	}
	checkClean(t, p.end(), secrets)
}

func checkClean(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%q in %s", s, text)
		}
	}
}
