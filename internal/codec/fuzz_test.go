package codec

import (
	"bytes"
	"compress/gzip"
	"errors"
	"testing"

	"vrafs/rafs"
)

// FuzzDecompress gives arbitrary stored bytes to every decoder. Whatever comes out
// has the promised size or is an error of class ErrData; a decoder works on after.
func FuzzDecompress(f *testing.F) {
	src := text(9000, 1)
	var e Encoder
	for _, c := range compressors {
		in, _ := stored(f, &e, src, c)
		f.Add(in, uint8(c), uint16(len(src)))
		f.Add(in[:len(in)/2], uint8(c), uint16(len(src)))
	}
	good := map[rafs.Compressor][]byte{}
	for _, c := range compressors {
		good[c], _ = stored(f, &e, src, c)
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, in []byte, kind uint8, size uint16) {
		c := rafs.Compressor(kind % 4)
		dst := make([]byte, size)
		guard := append(dst, 0xa5)[:size]
		if err := d.Decompress(guard, in, c); err != nil && !errors.Is(err, ErrData) {
			t.Fatalf("untyped error %v", err)
		}
		out, err := d.DecompressLimit(in, c, int(size))
		if err != nil && !errors.Is(err, ErrData) || len(out) > int(size) {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		dst = make([]byte, len(src))
		if err := d.Decompress(dst, good[c], c); err != nil || !bytes.Equal(dst, src) {
			t.Fatalf("%v: good chunk afterwards: %v", c, err)
		}
	})
}

// FuzzZran enters arbitrary bytes with an arbitrary state.
func FuzzZran(f *testing.F) {
	plain := text(3000, 2)
	file := gzipMembers(f, gzip.DefaultCompression, plain[:1000], plain[1000:])
	for _, p := range findPoints(file) {
		z := p.context(plain)
		f.Add(file[p.in:], z.Byte, z.Bits, z.Dict, uint16(2000))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, in []byte, b, bits uint8, dict []byte, size uint16) {
		err := d.Zran(make([]byte, size), in, ZranContext{Byte: b, Bits: bits, Dict: dict})
		if err != nil && !errors.Is(err, ErrData) {
			t.Fatalf("untyped error %v", err)
		}
	})
}

// FuzzXTS decrypts arbitrary units: what is longer than a block comes back when
// it is encrypted again.
func FuzzXTS(f *testing.F) {
	x, _ := newXTS(f)
	f.Add(x.Encrypt([]byte("short")))
	f.Add(x.Encrypt(text(100, 1)))
	f.Add(make([]byte, 15))
	f.Fuzz(func(t *testing.T, unit []byte) {
		p, err := x.Decrypt(bytes.Clone(unit))
		if len(unit) < 16 {
			if !errors.Is(err, ErrData) {
				t.Fatalf("%d bytes: %v", len(unit), err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p) == len(unit) && !bytes.Equal(x.Encrypt(p), unit) {
			t.Fatalf("%x does not encrypt to itself", unit)
		}
	})
}
