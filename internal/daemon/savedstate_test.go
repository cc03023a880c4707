package daemon

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vrafs/api"
	"vrafs/internal/opener"
	"vrafs/internal/tlv"
)

func sampleState() *savedState {
	return &savedState{boot: "b", session: []byte{1, 2}, tree: []byte{3}, conn: 44, socket: []byte{5},
		set: []override{{"/a", "registry_auth", "x\x00y"}, {"", "proxy_url", ""}}}
}

func sampleMount() *savedMount {
	return &savedMount{since: time.Unix(5, 6), root: true,
		cmd: api.MountCmd{Source: "/s", FSType: "rafs", Config: "{}", PrefetchFiles: []string{"/a", "/b"}}}
}

var fields = cmp.Options{cmp.AllowUnexported(savedState{}, savedMount{}, override{}), cmpopts.EquateEmpty()}

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

// oldState is a state as version 1 wrote it before it had a keeper. Later versions must read it
// for as long as they promise to read version 1.
const oldState = "" +
	"5652414653544154" + // magic VRAFSTAT
	"0100" + "0100" + // version, least reader
	"0180" + "01000000" + "62" + // boot id
	"0280" + "02000000" + "0102" + // session
	"0380" + "01000000" + "03" // tree

// goldenState is sampleState: what was added is optional, so the program that wrote
// oldState reads it.
const goldenState = oldState +
	"0400" + "08000000" + "2c00000000000000" + // number of the connection
	"0500" + "01000000" + "05" + // identity of the socket
	"0600" + "14000000" + "2f6100" + "72656769737472795f6175746800" + "780079" + // set over the API
	"0600" + "0b000000" + "00" + "70726f78795f75726c00"

// goldenMount is sampleMount.
const goldenMount = "" +
	"56524146534d4e54" + // magic VRAFSMNT
	"0100" + "0100" +
	"0180" + "02000000" + "2f73" + // source
	"0280" + "04000000" + "72616673" + // type
	"0380" + "02000000" + "7b7d" + // configuration
	"0480" + "08000000" + "06f2052a01000000" + // mounted at, ns
	"0500" + "02000000" + "2f61" + // prefetch files
	"0500" + "02000000" + "2f62" +
	"0600" + "00000000" // from the command line

func TestStateOfThePreviousReleaseIsRead(t *testing.T) {
	text, err := hex.DecodeString(oldState)
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeState(text)
	if d := cmp.Diff(&savedState{boot: "b", session: []byte{1, 2}, tree: []byte{3}}, s, fields); d != "" || err != nil {
		t.Error(d, err)
	}
}

// TestStateIsReadByThePreviousRelease: it knew three records.
func TestStateIsReadByThePreviousRelease(t *testing.T) {
	records, err := tlv.Read(sampleState().encode(), stateMagic, 1, tagBoot, tagSession, tagTree)
	if err != nil || len(records) != 3 {
		t.Errorf("got %v, %v", records, err)
	}
}

// TestGoldenStatesHaveEveryField: what is added to the state must be added to them.
func TestGoldenStatesHaveEveryField(t *testing.T) {
	for _, sample := range []any{*sampleState(), *sampleMount(), sampleMount().cmd} {
		v := reflect.ValueOf(sample)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name == "inPlace" {
				continue // only for the process that wrote it; see TestInPlaceStateKeepsItsForm
			}
			if v.Field(i).IsZero() {
				t.Errorf("%v.%s is not part of the golden state", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestStateKeepsItsForm(t *testing.T) {
	for want, p := range map[string][]byte{goldenState: sampleState().encode(), goldenMount: sampleMount().encode()} {
		if got := hex.EncodeToString(p); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
