package vm

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestNewestPackageIsByNumber(t *testing.T) {
	for _, tt := range []struct {
		series string
		names  []string // oldest first
	}{
		{"6.1", []string{"linux-image-6.1.0-9-amd64", "linux-image-6.1.0-47-amd64", "linux-image-6.1.0-101-amd64"}},
		{"6.12", []string{"linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.12.117+deb13-cloud-amd64"}},
	} {
		for _, n := range tt.names {
			if !packagePatterns[tt.series].MatchString(n) {
				t.Errorf("%s: %s does not match", tt.series, n)
			}
		}
		if !slices.IsSortedFunc(tt.names, compareVersions) {
			t.Errorf("%v: out of order", tt.names)
		}
	}
	for _, n := range []string{"linux-image-6.1.0-47-cloud-amd64", "linux-image-6.1.0-47-amd64-dbg", "linux-image-6.12-amd64"} {
		if packagePatterns["6.1"].MatchString(n) {
			t.Errorf("%s is taken for a 6.1 kernel", n)
		}
	}
}

// bzImage is a boot image of one setup sector whose payload is compressed with
// zstd.
func bzImage(t *testing.T, payload []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := append(enc.EncodeAll(payload, nil), 0, 0, 0, 0)
	b := make([]byte, 1024)
	b[setupSectsAt] = 1
	copy(b[headerMagicAt:], "HdrS")
	binary.LittleEndian.PutUint32(b[payloadOffsetAt:], 16)
	binary.LittleEndian.PutUint32(b[payloadLengthAt:], uint32(len(packed)))
	return append(append(b, make([]byte, 16)...), packed...)
}

func TestVmlinuxComesOutOfABootImage(t *testing.T) {
	want := append([]byte("\x7fELF"), make([]byte, 10000)...)
	got, err := extractVmlinux(t.Context(), bzImage(t, want))
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestBadBootImagesAreErrors(t *testing.T) {
	good := bzImage(t, []byte("\x7fELF and more"))
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"no_magic", func(b []byte) []byte { b[headerMagicAt]++; return b }},
		{"truncated", func(b []byte) []byte { return b[:len(b)-20] }},
		{"setup_past_the_end", func(b []byte) []byte { b[setupSectsAt] = 0xff; return b }},
		{"payload_length", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[payloadLengthAt:], 1<<31); return b }},
		{"payload_offset", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[payloadOffsetAt:], 1<<31); return b }},
		{"not_elf", func(b []byte) []byte { return bzImage(t, []byte("something else")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := extractVmlinux(t.Context(), tt.change(slices.Clone(good))); err == nil {
				t.Error("no error")
			}
		})
	}
}
