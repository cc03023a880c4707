package rafs_test

import (
	"math/rand/v2"
	"testing"

	"vrafs/internal/testenv"
)

// TestDamagedImagesAreHarmless overwrites fields of good images with values that
// break arithmetic, and does everything to what is left.
func TestDamagedImagesAreHarmless(t *testing.T) {
	values := []uint64{0, 1, 2, 3, 0x7f, 0xff, 0xffff, 0x10000, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40, 1<<61 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 8, 1<<64 - 1}
	for seed := range uint64(testenv.Rounds(400)) {
		r := rand.New(rand.NewPCG(seed, 99))
		m := randomModel(r, 30, 12)
		for _, good := range [][]byte{m.v5(), m.v6()} {
			for range 50 {
				data := append([]byte(nil), good...)
				if r.IntN(8) == 0 {
					data = data[:r.IntN(len(data))]
				}
				for range 1 + r.IntN(3) {
					damage(r, data, values[r.IntN(len(values))])
				}
				exercise(t, data)
			}
		}
	}
}

// damage overwrites a field somewhere, in half of all cases one that is not zero.
func damage(r *rand.Rand, data []byte, v uint64) {
	if len(data) < 16 {
		return
	}
	at := r.IntN(len(data) - 8)
	for range r.IntN(200) {
		if data[at] != 0 {
			break
		}
		at = r.IntN(len(data) - 8)
	}
	at &^= 1
	if r.IntN(4) == 0 { // something near another value that is there
		v = le.Uint64(data[at:]) + v
	}
	switch r.IntN(4) {
	case 0:
		data[at] = byte(v)
	case 1:
		le.PutUint16(data[at:], uint16(v))
	case 2:
		le.PutUint32(data[at:], uint32(v))
	default:
		le.PutUint64(data[at:], v)
	}
}
