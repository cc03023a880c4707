package tlv

import (
	"errors"
	"reflect"
	"testing"
)

const testMagic = "VRAFTEST"

// sample is a state with a required text, an optional number and nested records.
func sample() []byte {
	e := Start(testMagic, 2, 1)
	e.Text(Required|1, "a")
	e.Uint(2, 7)
	e.Nested(3, func(e *Encoder) { e.Uint(1, 8); e.Bytes(2, nil) })
	return e.Finish()
}

func TestStateReadsBack(t *testing.T) {
	list, err := Read(sample(), testMagic, 1, Required|1, 2, 3)
	if err != nil || len(list) != 3 {
		t.Fatalf("got %v, %v", list, err)
	}
	n, err := list[1].Uint()
	if string(list[0].Value) != "a" || n != 7 || err != nil {
		t.Errorf("got %q, %d, %v", list[0].Value, n, err)
	}
	inner, err := Records(list[2].Value, 1, 2)
	if err != nil || len(inner) != 2 || len(inner[1].Value) != 0 {
		t.Errorf("nested: got %v, %v", inner, err)
	}
}

func TestUnknownOptionalRecordIsSkipped(t *testing.T) {
	list, err := Read(sample(), testMagic, 2, Required|1)
	if err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestBadStatesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		text    []byte
		version uint16
		want    error
	}{
		{"empty", nil, 2, ErrFormat},
		{"other magic", append([]byte("VRAFOTHR"), sample()[8:]...), 2, ErrFormat},
		{"header cut", sample()[:11], 2, ErrFormat},
		{"newer reader needed", Start(testMagic, 9, 3).Finish(), 2, ErrNewer},
		{"record cut", sample()[:len(sample())-1], 2, ErrFormat},
		{"record header cut", sample()[:headerSize+3], 2, ErrFormat},
		{"required record unknown", func() []byte { e := Start(testMagic, 2, 1); e.Uint(Required|9, 1); return e.Finish() }(), 2, ErrNewer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(tt.text, testMagic, tt.version, Required|1, 2, 3)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := (Record{1, []byte{1}}).Uint(); !errors.Is(err, ErrFormat) {
		t.Errorf("short number: got %v", err)
	}
}

// FuzzRecords: any text is refused or splits into records that encode to it again.
func FuzzRecords(f *testing.F) {
	f.Add(sample()[headerSize:])
	f.Add([]byte{1, 0, 255, 255, 255, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		all := make([]Tag, 0, 64)
		for i := range Tag(32) {
			all = append(all, i, i|Required)
		}
		list, err := Records(p, all...)
		if err != nil {
			return
		}
		var e Encoder
		for _, r := range list {
			e.Bytes(r.Tag, r.Value)
		}
		again, err := Records(e.Finish(), all...)
		if err != nil || !reflect.DeepEqual(list, again) {
			t.Errorf("%x became %x, %v", p, e.Finish(), err)
		}
	})
}
