package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vrafs/api"
	"vrafs/internal/opener"
	"vrafs/internal/tlv"
)

func sampleState() *savedState {
	return &savedState{boot: "b", session: []byte{1, 2}, tree: []byte{3}}
}

func sampleMount() *savedMount {
	return &savedMount{since: time.Unix(5, 6), root: true,
		cmd: api.MountCmd{Source: "/s", FSType: "rafs", Config: "{}", PrefetchFiles: []string{"/a", "/b"}}}
}

var fields = cmp.AllowUnexported(savedState{}, savedMount{})

func TestStateReadsBack(t *testing.T) {
	state, err := decodeState(sampleState().encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleState(), state, fields); d != "" {
		t.Error(d)
	}
	mount, err := decodeMount(sampleMount().encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleMount(), mount, fields); d != "" {
		t.Error(d)
	}
}

func TestStateOfANewerVersionIsReadIfItSaysSo(t *testing.T) {
	e := tlv.Start(stateMagic, 7, stateVersion)
	e.Text(tagBoot, "b")
	e.Text(99, "something new and optional")
	if s, err := decodeState(e.Finish()); err != nil || s.boot != "b" {
		t.Errorf("got %+v, %v", s, err)
	}
	e = tlv.Start(stateMagic, 7, stateVersion)
	e.Text(tlv.Required|99, "something that matters")
	if _, err := decodeState(e.Finish()); !errors.Is(err, tlv.ErrNewer) {
		t.Errorf("got %v", err)
	}
}

func TestStateFileIsPrivateAndOfThisBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.state")
	f, err := newStateFile(opener.Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.read(); s != nil || err != nil {
		t.Errorf("none: got %v, %v", s, err)
	}
	if err := f.write(sampleState); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	if s, err := f.read(); err != nil || len(s.session) != 2 {
		t.Errorf("got %v, %v", s, err)
	}
	f.boot = "another boot"
	if s, err := f.read(); s != nil || err != nil {
		t.Errorf("other boot: got %v, %v", s, err)
	}
	f.remove()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzState: any file, or mount in it, is refused or gives a state that reads back.
func FuzzState(f *testing.F) {
	f.Add(sampleState().encode())
	f.Add(sampleMount().encode())
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		if s, err := decodeState(p); err == nil {
			again, err := decodeState(s.encode())
			if d := cmp.Diff(s, again, fields); d != "" || err != nil {
				t.Error(d, err)
			}
		}
		if m, err := decodeMount(p); err == nil {
			again, err := decodeMount(m.encode())
			if d := cmp.Diff(m, again, fields); d != "" || err != nil {
				t.Error(d, err)
			}
		}
	})
}
