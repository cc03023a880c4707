package inflate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"vrafs/internal/codec"
)

// sample is n bytes that compress in part: words, runs, noise.
func sample(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	for len(b) < n {
		switch rng.IntN(4) {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(3000))...)
		case 1:
			for range rng.IntN(2000) {
				b = append(b, byte(rng.Uint32()))
			}
		case 2:
			if len(b) > 0 {
				from := rng.IntN(len(b))
				b = append(b, b[from:min(len(b), from+rng.IntN(40000))]...)
			}
		default:
			b = append(b, "the quick brown fox jumps over the lazy dog. "[:rng.IntN(45)]...)
		}
	}
	return b[:n]
}

// pack compresses p at a level with a flush now and then.
func pack(t testing.TB, p []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	for len(p) > 0 {
		n := min(len(p), 100_000)
		_, err1 := w.Write(p[:n])
		if err := errors.Join(err1, w.Flush()); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// streams are gzip files of every kind of block, and what is in them.
func streams(t testing.TB) (packed, plain [][]byte) {
	for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
		p := sample(400_000, uint64(level+10))
		packed, plain = append(packed, pack(t, p, level)), append(plain, p)
	}
	joined := bytes.Join([][]byte{packed[2], packed[0], pack(t, nil, 1), packed[8]}, nil)
	both := bytes.Join([][]byte{plain[2], plain[0], plain[8]}, nil)
	return append(packed, joined, append(bytes.Clone(joined), 0, 0, 0)), append(plain, both, both)
}

func TestReaderGivesWhatWasPacked(t *testing.T) {
	packed, plain := streams(t)
	for i := range packed {
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(packed[i]),
			"bytes": iotest.OneByteReader(bytes.NewReader(packed[i])),
		} {
			got, err := io.ReadAll(NewReader(r))
			if err != nil || !bytes.Equal(got, plain[i]) {
				t.Errorf("stream %d, %s: %d bytes, error %v; want %d bytes", i, name, len(got), err, len(plain[i]))
			}
		}
	}
}

func TestEveryBlockCanBeEntered(t *testing.T) {
	packed, plain := streams(t)
	for i := range packed {
		z := NewReader(bytes.NewReader(packed[i]))
		var dec codec.Decoder
		points, buf, last := 0, make([]byte, 777), ^uint64(0)
		for {
			if _, err := io.ReadFull(z, buf); err != nil {
				break
			}
			p := z.Block()
			if p.OutOff > z.OutOffset() {
				t.Fatalf("stream %d: block at %d, read only up to %d", i, p.OutOff, z.OutOffset())
			}
			if p.OutOff == last {
				continue
			}
			last = p.OutOff
			points++
			want := plain[i][p.OutOff:z.OutOffset()]
			got := make([]byte, len(want))
			// The bytes that were used so far and a few more must do.
			src := packed[i][p.InOff : z.InOffset()+Slack]
			if err := dec.Zran(got, src, codec.ZranContext{Byte: p.Byte, Bits: p.Bits, Dict: p.Dict}); err != nil {
				t.Fatalf("stream %d, block at %d: %v", i, p.OutOff, err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("stream %d, block at %d: other bytes", i, p.OutOff)
			}
		}
		if points < 2 {
			t.Errorf("stream %d: only %d points", i, points)
		}
	}
}

func TestDamagedStreamsAreErrors(t *testing.T) {
	packed, _ := streams(t)
	good := packed[8]
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		p := bytes.Clone(good)
		p[rng.IntN(len(p)-60)+60] ^= 1 << rng.IntN(8)
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(p))); !errors.Is(err, ErrData) {
			t.Errorf("flipped bit: error %v", err)
		}
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(good[:rng.IntN(len(good))]))); !errors.Is(err, ErrData) {
			t.Errorf("cut: error %v", err)
		}
	}
	for name, p := range map[string][]byte{"empty": nil, "text": []byte("text"), "tail": append(bytes.Clone(good), "tail"...)} {
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(p))); !errors.Is(err, ErrData) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	p := sample(8<<20, 1)
	packed := pack(b, p, 6)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		z := NewReader(bytes.NewReader(packed))
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, z, buf); err != nil {
			b.Fatal(err)
		}
	}
}
