package codec

import (
	"bytes"
	"crypto/aes"
	"errors"
	"testing"

	"golang.org/x/crypto/xts"
)

func newXTS(t testing.TB) (*XTS, [32]byte) {
	t.Helper()
	var key [32]byte
	copy(key[:], text(32, 31))
	// x/crypto takes a sector number, which is the low half of the IV.
	x, err := NewXTS(key, [16]byte{0x39, 0x30})
	if err != nil {
		t.Fatal(err)
	}
	return x, key
}

const oracleSector = 0x3039

// TestXTSAgreesWithXCrypto compares whole blocks with golang.org/x/crypto/xts, and
// ciphertext stealing with its definition on top of that (IEEE 1619, 5.3.2).
func TestXTSAgreesWithXCrypto(t *testing.T) {
	x, key := newXTS(t)
	oracle, err := xts.NewCipher(aes.NewCipher, key[:])
	if err != nil {
		t.Fatal(err)
	}
	for n := 16; n <= 400; n++ {
		plain := text(n, uint64(n))
		want := steal(oracle, plain)
		got := x.Encrypt(bytes.Clone(plain))
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes encrypt to %x, want %x", n, got, want)
		}
		back, err := x.Decrypt(got)
		if err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("%d bytes decrypt to %x, %v", n, back, err)
		}
	}
}

// steal encrypts with whole-block XTS alone: the last whole block is encrypted in
// its place, its head becomes the tail, and its rest fills up the partial block,
// which takes the next tweak.
func steal(oracle *xts.Cipher, plain []byte) []byte {
	whole, tail := len(plain)/16*16, len(plain)%16
	out := make([]byte, whole, len(plain))
	oracle.Encrypt(out, plain[:whole], oracleSector)
	if tail == 0 {
		return out
	}
	last := bytes.Clone(out[whole-16:])
	// The next tweak is reached by encrypting one block more.
	padded := append(bytes.Clone(plain[:whole]), plain[whole:]...)
	padded = append(padded, last[tail:]...)
	longer := make([]byte, len(padded))
	oracle.Encrypt(longer, padded, oracleSector)
	copy(out[whole-16:], longer[whole:])
	return append(out, last[:tail]...)
}

// TestShortUnitsArePadded holds units below one block to RAFS, section 4.9.
func TestShortUnitsArePadded(t *testing.T) {
	x, _ := newXTS(t)
	for n := range 16 {
		plain := text(n, 3)
		sealed := x.Encrypt(bytes.Clone(plain))
		if len(sealed) != 18 {
			t.Fatalf("%d bytes become %d", n, len(sealed))
		}
		got, err := x.Decrypt(bytes.Clone(sealed))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %x, %v, want %x", n, got, err, plain)
		}
	}
	for n := range 16 {
		if _, err := x.Decrypt(make([]byte, n)); !errors.Is(err, ErrData) {
			t.Errorf("%d stored bytes: %v", n, err)
		}
	}
}

func TestXTSKeyHalvesMustDiffer(t *testing.T) {
	if _, err := NewXTS([32]byte{}, [16]byte{}); !errors.Is(err, ErrData) {
		t.Errorf("got %v", err)
	}
}

func TestDecryptingAllocatesNothing(t *testing.T) {
	x, _ := newXTS(t)
	p := text(1<<16+5, 1)
	if n := testing.AllocsPerRun(10, func() { _, _ = x.Decrypt(p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
