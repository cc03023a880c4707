package daemon

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"vrafs/internal/tlv"
)

// sampleInPlace has every field.
func sampleInPlace() *inPlace {
	return &inPlace{front: []byte{1}, sock: savedSocket{5, []byte{2}}, control: savedSocket{6, []byte{3}}, began: 4, lives: 7, parent: 8,
		shares: []*savedShare{{identity: "s", state: []byte{9}}}, numbers: []byte{10}}
}

// oldInPlace is what programs write and read that can't hand shared directories over, and
// what is written where there are none.
const oldInPlace = "01800100000001028008000000050000000000000003800100000002048008000000060000000000000005800100000003060008000000040000000000000007000800000007000000000000000800080000000800000000000000"

// goldenInPlace is sampleInPlace: what programs of other versions write and read.
const goldenInPlace = oldInPlace +
	"0980" + "0e000000" + "0180" + "01000000" + "73" + "0280" + "01000000" + "09" + // a shared directory
	"0a80" + "01000000" + "0a" // their inode numbers

// TestStateOfAProgramWithoutShares: it is read, and written where nothing is shared.
func TestStateOfAProgramWithoutShares(t *testing.T) {
	want := sampleInPlace()
	want.shares, want.numbers = nil, nil
	text, err := hex.DecodeString(oldInPlace)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := decodeInPlace(text); err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v, %v", p, err)
	}
	var e tlv.Encoder
	want.encode(&e)
	if got := hex.EncodeToString(e.Finish()); got != oldInPlace {
		t.Errorf("got  %s\nwant %s", got, oldInPlace)
	}
	// That program refuses the state of one that shares directories, when it is asked.
	if text, err = hex.DecodeString(goldenInPlace); err != nil {
		t.Fatal(err)
	}
	_, err = tlv.Records(text, tagFront, tagSockFD, tagSockName, tagControlFD, tagControlName, tagBegan, tagLives, tagParent)
	if !errors.Is(err, tlv.ErrNewer) {
		t.Errorf("read: %v", err)
	}
}

// TestInPlaceStateKeepsItsForm: another version of this program reads it.
func TestInPlaceStateKeepsItsForm(t *testing.T) {
	p := sampleInPlace()
	v := reflect.ValueOf(*p)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not part of the golden state", v.Type().Field(i).Name)
		}
	}
	var e tlv.Encoder
	p.encode(&e)
	body := e.Finish()
	if got := hex.EncodeToString(body); got != goldenInPlace {
		t.Errorf("got  %s\nwant %s", got, goldenInPlace)
	}
	again, err := decodeInPlace(body)
	if err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("%+v, %v", again, err)
	}
}

// FuzzInPlaceState: what a former program left is read or refused.
func FuzzInPlaceState(f *testing.F) {
	s := savedState{boot: "boot", tree: []byte{}, inPlace: sampleInPlace()}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err != nil || s.inPlace == nil {
			return
		}
		again, err := decodeState(s.encode())
		if err != nil || again.inPlace == nil || again.inPlace.lives != s.inPlace.lives || string(again.inPlace.front) != string(s.inPlace.front) {
			t.Errorf("%+v becomes %+v, %v", s.inPlace, again.inPlace, err)
		}
	})
}
