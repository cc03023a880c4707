package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vrafs/internal/testfault"
	"vrafs/internal/teststore"
)

// A keyed is a daemon that reads files one by one out of an object store.
type keyed struct {
	h    *host
	p    *process
	s    *teststore.Store
	next int // file
}

const keyedFiles = 40

func keyedName(i int) string { return fmt.Sprintf("f%02d", i) }

// newKeyed mounts an image of a store of some kind at /a. No file is read along with another.
func newKeyed(t *testing.T, kind string, names *testfault.Names) *keyed {
	t.Helper()
	files := map[string]string{}
	for i := range keyedFiles {
		files[keyedName(i)] = "text of " + keyedName(i)
	}
	im, find := treeOf(t, files), teststore.Find(t, kind)
	k := &keyed{h: newHost(t), s: find.StartDir(t, im.BlobDir)}
	cmd := exec.Command(binary, "fuse", "--mountpoint", k.h.dir, "--apisock", k.h.api, "--log-level", "trace")
	names.Command(t, cmd, k.h.dir)
	k.p = start(t, cmd, "", k.h.api).ready()
	config := strings.Replace(im.stored(k.s, t.TempDir()), `"mode":"direct"`, `"mode":"direct","batch_size":0`, 1)
	k.p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(config))
	return k
}

// read reads the next file.
func (k *keyed) read() error {
	name := keyedName(k.next)
	k.next++
	text, err := os.ReadFile(filepath.Join(k.h.dir, "a", name))
	if err == nil && string(text) != "text of "+name {
		err = errors.New("other bytes")
	}
	return err
}

// set gives a mount of the running daemon, or all of them, other keys.
func (k *keyed) set(t *testing.T, id string, keys teststore.Keys) {
	t.Helper()
	m := map[string]string{"access_key_id": keys.ID, "access_key_secret": keys.Secret}
	if keys.Token != "" {
		m["security_token"] = keys.Token
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	k.p.must(204, "PUT", "/api/v1/config?id="+id, string(body))
}

// TestStoreKeysChangeWhileItReads: keys of object stores that end are refused, those that
// are set over the API are used by the next read, by what is under way and by a
// successor, and show nowhere.
func TestStoreKeysChangeWhileItReads(t *testing.T) {
	second := teststore.Keys{ID: "SECONDKEYID", Secret: "second-of-the-secrets", Token: "second-of-the-tokens"}
	third := teststore.Keys{ID: "THIRDKEYID", Secret: "third-of-the-secrets"}
	names := testfault.StartNames(t)
	for _, kind := range []string{"s3", "oss", "oss with a session"} {
		t.Run(kind, func(t *testing.T) {
			k, second := newKeyed(t, kind, names), second
			if kind == "s3" {
				second.Token = "" // versitygw gives none, and refuses those of others
			}
			must := func(when string) {
				t.Helper()
				if err := k.read(); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
			must("as configured")
			k.s.Revoke(t, teststore.FirstKey)
			if err := k.read(); err == nil {
				t.Error("keys that have ended are good for a read")
			}
			events := k.p.must(200, "GET", "/api/v1/daemon/events", "")
			if !strings.Contains(events, "403") || !strings.Contains(events, "check access_key_id") {
				t.Errorf("nothing says what to do: %s", events)
			}
			k.s.Admit(t, second)
			k.set(t, "", second)
			must("after the change, for all mounts")
			must("and again")

			// The next ones come before the last ones end, as such keys are changed, and
			// nobody who reads sees it.
			k.s.Admit(t, third)
			begun, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				err := k.read()
				close(begun)
				for err == nil && k.next < keyedFiles-2 {
					err = k.read()
				}
				ended <- err
			}()
			<-begun
			k.set(t, "/a", third)
			k.s.Revoke(t, second.ID)
			if err := <-ended; err != nil {
				t.Errorf("a reader during the change: %v", err)
			}
			must("after the second change")

			_, server := k.h.one(t)
			kill(t, server, syscall.SIGKILL)
			must("a successor")

			secrets := append([]string{second.Secret, "second-of-the-tokens", third.Secret, second.ID, third.ID}, k.s.Secrets...)
			for _, target := range []string{"/api/v1/config", "/api/v1/config?id=/a", "/api/v1/daemon", "/api/v1/daemon/events", "/metrics"} {
				checkClean(t, k.p.must(200, "GET", target, ""), secrets)
			}
			k.p.must(204, "PUT", "/api/v1/daemon/exit", "")
			<-k.p.eof
			checkClean(t, k.p.log(), secrets)
		})
	}
}
