package codec

import (
	"bytes"
	"compress/gzip"
	"errors"
	"testing"
)

// gzipMembers compresses the parts as one file of so many members.
func gzipMembers(t testing.TB, level int, parts ...[]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, p := range parts {
		w, err := gzip.NewWriterLevel(&buf, level)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

// context gives the inflater's state at a point, from the plain text.
func (p zranPoint) context(plain []byte) ZranContext {
	return ZranContext{Byte: p.ctx, Bits: p.n, Dict: plain[p.out-min(p.own, 32<<10) : p.out]}
}

// TestZranEntersAnyBlock enters real streams at the start of every block, with
// every number of pending bits, and reads across ends of members.
func TestZranEntersAnyBlock(t *testing.T) {
	plain := text(700000, 11)
	pending := map[uint8]int{}
	for _, tt := range []struct {
		name  string
		level int
		parts [][]byte
	}{
		{"one_member", gzip.DefaultCompression, [][]byte{plain}},
		{"fast", gzip.BestSpeed, [][]byte{plain}},
		{"huffman_only", gzip.HuffmanOnly, [][]byte{plain}},
		{"stored", gzip.NoCompression, [][]byte{plain}},
		{"two_members", gzip.BestCompression, [][]byte{plain[:300000], plain[300000:]}},
		{"many_members", gzip.DefaultCompression, [][]byte{plain[:1000], {}, plain[1000:1001], plain[1001:60000], plain[60000:]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := gzipMembers(t, tt.level, tt.parts...)
			var d Decoder
			points := findPoints(file)
			for _, p := range points {
				pending[p.n]++
				for _, n := range []int{1, 100, 70000, len(plain) - p.out} {
					if n = min(n, len(plain)-p.out); n == 0 {
						continue
					}
					dst := make([]byte, n)
					if err := d.Zran(dst, file[p.in:], p.context(plain)); err != nil {
						t.Fatalf("%d bytes at %d, %d bits pending: %v", n, p.out, p.n, err)
					}
					if !bytes.Equal(dst, plain[p.out:][:n]) {
						t.Fatalf("%d bytes at %d, %d bits pending: wrong bytes", n, p.out, p.n)
					}
				}
			}
			if len(points) < len(tt.parts) {
				t.Errorf("%d points for %d members", len(points), len(tt.parts))
			}
		})
	}
	for n := range uint8(8) {
		if pending[n] == 0 {
			t.Errorf("no block with %d bits pending", n)
		}
	}
}

func TestZranRefusesWhatDoesNotFit(t *testing.T) {
	plain := text(100000, 12)
	file := gzipMembers(t, gzip.DefaultCompression, plain)
	var d Decoder
	for _, tt := range []struct {
		name string
		size int
		in   []byte
		z    ZranContext
	}{
		{"more_than_there_is", len(plain) + 1, file[10:], ZranContext{}},
		{"input_cut_off", len(plain), file[10 : len(file)/2], ZranContext{}},
		{"trailer_cut_off", len(plain) + 1, file[10 : len(file)-4], ZranContext{}},
		{"no_input", 1, nil, ZranContext{}},
		{"eight_bits", 1, file[10:], ZranContext{Bits: 8}},
		{"long_window", 1, file[10:], ZranContext{Dict: make([]byte, 32<<10+1)}},
		{"garbage_after_member", len(plain) + 1, append(bytes.Clone(file[10:]), noise(100)...), ZranContext{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := d.Zran(make([]byte, tt.size), tt.in, tt.z); !errors.Is(err, ErrData) {
				t.Errorf("got %v", err)
			}
		})
	}
}
