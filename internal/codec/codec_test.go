package codec

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"vrafs/rafs"
)

var compressors = []rafs.Compressor{rafs.CompressorNone, rafs.CompressorLZ4, rafs.CompressorGzip, rafs.CompressorZstd}

// text gives n bytes that compress about as well as program files do: words out of
// a small dictionary between bytes of noise.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 300)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(14))
		for k := range words[i] {
			words[i][k] = byte(r.Uint32())
		}
	}
	var out []byte
	for len(out) < n {
		out = append(out, words[r.IntN(len(words))]...)
		out = append(out, byte(r.Uint32()))
	}
	return out[:n]
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// stored compresses src and says with which compressor the result is to be read.
func stored(t testing.TB, e *Encoder, src []byte, c rafs.Compressor) ([]byte, rafs.Compressor) {
	t.Helper()
	out, smaller, err := e.Compress(nil, src, c)
	if err != nil {
		t.Fatal(err)
	}
	if smaller != (len(out) < len(src)) {
		t.Fatalf("%v: %d bytes for %d, compressed %v", c, len(out), len(src), smaller)
	}
	if !smaller {
		c = rafs.CompressorNone
	}
	return out, c
}

func TestChunksDecodeToThemselves(t *testing.T) {
	for _, c := range compressors {
		var e Encoder
		var d Decoder
		for _, src := range [][]byte{
			{0}, {1, 2}, make([]byte, 4096), text(15, 1), text(4096, 2), text(1<<20, 3), text(1<<20-1, 4),
			noise(4096), make([]byte, 16<<20),
		} {
			in, with := stored(t, &e, src, c)
			dst := make([]byte, len(src))
			if err := d.Decompress(dst, in, with); err != nil || !bytes.Equal(dst, src) {
				t.Errorf("%v, %d bytes: %v", c, len(src), err)
			}
			if c != rafs.CompressorNone && with != rafs.CompressorNone {
				got, err := d.DecompressLimit(in, with, len(src))
				if err != nil || !bytes.Equal(got, src) {
					t.Errorf("%v, %d bytes without their size: %v", c, len(src), err)
				}
				if _, err := d.DecompressLimit(in, with, len(src)-1); !errors.Is(err, ErrData) {
					t.Errorf("%v: limit of one byte less: %v", c, err)
				}
			}
		}
	}
}

func TestIncompressibleChunksAreStoredAsTheyAre(t *testing.T) {
	src := noise(10000)
	for _, c := range compressors {
		var e Encoder
		out, smaller, err := e.Compress([]byte("before"), src, c)
		if err != nil || smaller || !bytes.Equal(out, append([]byte("before"), src...)) {
			t.Errorf("%v: %d bytes, compressed %v, %v", c, len(out), smaller, err)
		}
	}
}

// TestWrongSizesAreRefused asks for one byte more and one less than a chunk has.
// Of gzip a prefix is right: eStargz knows only an upper bound of stored sizes.
func TestWrongSizesAreRefused(t *testing.T) {
	src := text(5000, 9)
	for _, c := range compressors {
		var e Encoder
		var d Decoder
		in, with := stored(t, &e, src, c)
		if err := d.Decompress(make([]byte, len(src)+1), in, with); !errors.Is(err, ErrData) {
			t.Errorf("%v: a byte too many: %v", c, err)
		}
		short := make([]byte, len(src)-1, len(src)+100)
		switch err := d.Decompress(short, in, with); {
		case c == rafs.CompressorGzip:
			if err != nil || !bytes.Equal(short, src[:len(src)-1]) {
				t.Errorf("gzip: prefix: %v", err)
			}
		case !errors.Is(err, ErrData):
			t.Errorf("%v: a byte too few: %v", c, err)
		}
		if err := d.Decompress(nil, in, with); !errors.Is(err, ErrData) {
			t.Errorf("%v: no bytes: %v", c, err)
		}
		if err := d.Decompress(make([]byte, len(src)), in[:len(in)-len(in)/4], with); !errors.Is(err, ErrData) {
			t.Errorf("%v: stored bytes cut off: %v", c, err)
		}
	}
	var d Decoder
	if err := d.Decompress(make([]byte, 4), make([]byte, 4), 9); !errors.Is(err, ErrData) {
		t.Errorf("unknown compressor: %v", err)
	}
}

// TestDecoderRecovers uses one decoder for damaged and good chunks in turn.
func TestDecoderRecovers(t *testing.T) {
	src := text(20000, 5)
	for _, c := range compressors[1:] {
		var e Encoder
		var d Decoder
		in, _ := stored(t, &e, src, c)
		dst := make([]byte, len(src))
		for i := range 200 {
			bad := bytes.Clone(in)
			bad[i*len(bad)/200] ^= 0x55
			if err := d.Decompress(dst, bad, c); err != nil && !errors.Is(err, ErrData) {
				t.Fatalf("%v: %v", c, err)
			}
			if err := d.Decompress(dst, in, c); err != nil || !bytes.Equal(dst, src) {
				t.Fatalf("%v: good chunk after a bad one: %v", c, err)
			}
		}
	}
}

// TestBombsStayInTheirDestination gives input that claims or yields far more than
// the metadata promises: what is allocated follows the promise.
func TestBombsStayInTheirDestination(t *testing.T) {
	huge := make([]byte, 64<<20)
	for _, c := range compressors[1:] {
		var e Encoder
		var d Decoder
		bomb, _ := stored(t, &e, huge, c)
		small := make([]byte, 4096)
		_ = d.Decompress(small, bomb, c) // scratch of the decoder
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := d.Decompress(small, bomb, c)
		_, limitErr := d.DecompressLimit(bomb, c, 1<<20)
		runtime.ReadMemStats(&after)
		if c != rafs.CompressorGzip && !errors.Is(err, ErrData) || !errors.Is(limitErr, ErrData) {
			t.Errorf("%v: %v, %v", c, err, limitErr)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 24<<20 {
			t.Errorf("%v: %d bytes allocated for 4 KiB and a limit of 1 MiB", c, got)
		}
	}
	var d Decoder
	// A frame header that claims 2^62 bytes of content.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0}
	if err := d.Decompress(make([]byte, 4096), frame, rafs.CompressorZstd); !errors.Is(err, ErrData) {
		t.Errorf("got %v", err)
	}
}

// TestDecodingAllocatesNothing leaves out gzip: its inflater makes tables for long
// codes anew in each block.
func TestDecodingAllocatesNothing(t *testing.T) {
	src := text(1<<16, 6)
	dst := make([]byte, len(src))
	for _, c := range []rafs.Compressor{rafs.CompressorNone, rafs.CompressorLZ4, rafs.CompressorZstd} {
		var e Encoder
		var d Decoder
		in, with := stored(t, &e, src, c)
		if n := testing.AllocsPerRun(20, func() {
			if err := d.Decompress(dst, in, with); err != nil {
				t.Fatal(err)
			}
			Sum(rafs.DigesterBLAKE3, dst)
			Sum(rafs.DigesterSHA256, dst)
			CRC32C(dst)
		}); n != 0 {
			t.Errorf("%v: %v allocations", c, n)
		}
	}
}

// TestEncodersAreDeterministic compares a used encoder with a fresh one.
func TestEncodersAreDeterministic(t *testing.T) {
	for _, c := range compressors {
		var used Encoder
		for i := range uint64(20) {
			src := text(int(1+i*i*997), i)
			var fresh Encoder
			a, _ := stored(t, &used, src, c)
			b, _ := stored(t, &fresh, src, c)
			if !bytes.Equal(a, b) {
				t.Errorf("%v: %d bytes encode differently the second time", c, len(src))
			}
		}
	}
}

// TestEncodedBytesStayTheSame holds the output to digests taken once: a module
// upgrade that changes them changes every image that is built again.
func TestEncodedBytesStayTheSame(t *testing.T) {
	want := map[rafs.Compressor]string{
		rafs.CompressorLZ4:  "446c1d011d662586",
		rafs.CompressorGzip: "6bc862e359968bc4",
		rafs.CompressorZstd: "958e5ce4c5fcc62d",
	}
	for c, sum := range want {
		var e Encoder
		in, _ := stored(t, &e, text(300000, 42), c)
		if got := sha256.Sum256(in); hex.EncodeToString(got[:8]) != sum {
			t.Errorf("%v: %d bytes, digest %x, want %s", c, len(in), got[:8], sum)
		}
	}
}

// TestGzipHeadersOfAnyKind decodes members with every optional header field.
func TestGzipHeadersOfAnyKind(t *testing.T) {
	src := text(3000, 8)
	for _, h := range []gzip.Header{{}, {Name: "file"}, {Comment: "words"}, {Extra: []byte("extra")}, {Name: "n", Comment: "c", Extra: make([]byte, 1000)}} {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		w.Header = h
		_, _ = w.Write(src)
		_ = w.Close()
		var d Decoder
		dst := make([]byte, len(src))
		if err := d.Decompress(dst, buf.Bytes(), rafs.CompressorGzip); err != nil || !bytes.Equal(dst, src) {
			t.Errorf("%+v: %v", h, err)
		}
		for cut := range min(buf.Len(), 1100) {
			if err := d.Decompress(dst, buf.Bytes()[:cut], rafs.CompressorGzip); !errors.Is(err, ErrData) {
				t.Fatalf("%+v cut at %d: %v", h, cut, err)
			}
		}
		// The trailer is compared where it is there.
		buf.Bytes()[buf.Len()-5] ^= 1
		if err := d.Decompress(dst, buf.Bytes(), rafs.CompressorGzip); !errors.Is(err, ErrData) {
			t.Errorf("%+v: wrong trailer: %v", h, err)
		}
	}
}

func TestDigestsAndChecksums(t *testing.T) {
	if got := CRC32C([]byte("123456789")); got != 0xE3069283 {
		t.Errorf("CRC-32C %#x", got)
	}
	for d, want := range map[rafs.Digester]string{
		rafs.DigesterBLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		rafs.DigesterSHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		h := NewHash(d)
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want || Sum(d, nil).String() != want {
			t.Errorf("%v of nothing: %s, %v", d, got, Sum(d, nil))
		}
		p := text(100000, 3)
		for len(p) > 0 {
			n := min(len(p), 4097)
			h.Write(p[:n])
			p = p[n:]
		}
		if got := rafs.Digest(h.Sum(nil)); got != Sum(d, text(100000, 3)) {
			t.Errorf("%v: in pieces %v", d, got)
		}
	}
	if NewHash(7) != nil || Sum(7, nil) != (rafs.Digest{}) {
		t.Error("an unknown digester")
	}
}
