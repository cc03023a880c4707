package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

const (
	blockSize = aes.BlockSize

	// Units shorter than one block are padded to xtsShort bytes, the last two of
	// which are a mark (RAFS, section 4.9).
	xtsShort  = 18
	xtsMark0  = 0x78
	xtsMark1  = 0x90
	xtsKeyLen = 32
)

// An XTS encrypts and decrypts the units of one blob with AES-128-XTS. Every unit
// has the same IV. Safe for all goroutines.
type XTS struct {
	data  cipher.Block
	first xtsTweak // of every unit, since all have the same IV
}

// NewXTS takes both AES-128 keys, data key first, and the IV. Equal keys are refused.
func NewXTS(key [xtsKeyLen]byte, iv [blockSize]byte) (*XTS, error) {
	if subtle.ConstantTimeCompare(key[:16], key[16:]) == 1 {
		return nil, fmt.Errorf("%w: halves of the XTS key are equal", ErrData)
	}
	data, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, fmt.Errorf("xts: %w", err)
	}
	tweak, err := aes.NewCipher(key[16:])
	if err != nil {
		return nil, fmt.Errorf("xts: %w", err)
	}
	x := &XTS{data: data}
	tweak.Encrypt(x.first[:], iv[:])
	return x, nil
}

// Encrypt encrypts one unit and returns the ciphertext: p itself, changed in
// place, or for fewer than 16 bytes a new slice of 18.
func (x *XTS) Encrypt(p []byte) []byte {
	if len(p) < blockSize {
		short := make([]byte, xtsShort)
		fill := byte(blockSize - len(p))
		for i := copy(short, p); i < blockSize; i++ {
			short[i] = fill
		}
		short[16], short[17] = xtsMark0, xtsMark1
		p = short
	}
	x.crypt(p, false)
	return p
}

// Decrypt decrypts one unit in place and returns the plaintext, a prefix of p.
func (x *XTS) Decrypt(p []byte) ([]byte, error) {
	if len(p) < blockSize {
		return nil, fmt.Errorf("%w: %d encrypted bytes", ErrData, len(p))
	}
	x.crypt(p, true)
	if len(p) != xtsShort || p[16] != xtsMark0 || p[17] != xtsMark1 {
		return p, nil
	}
	if pad := p[blockSize-1]; pad >= 1 && pad <= blockSize {
		return p[:blockSize-int(pad)], nil
	}
	return p, nil
}

// crypt works on len(p) >= 16 bytes in place, with ciphertext stealing for the
// last partial block. Going backwards the last two tweaks change places.
func (x *XTS) crypt(p []byte, backwards bool) {
	t := x.first
	whole := len(p) / blockSize
	tail := len(p) % blockSize
	if tail != 0 {
		whole--
	}
	for range whole {
		x.block(p[:blockSize], &t, backwards)
		t.next()
		p = p[blockSize:]
	}
	if tail == 0 {
		return
	}
	first, second := t, t
	second.next()
	if backwards {
		first, second = second, first
	}
	x.block(p[:blockSize], &first, backwards)
	for i := range tail {
		p[i], p[blockSize+i] = p[blockSize+i], p[i]
	}
	x.block(p[:blockSize], &second, backwards)
}

type xtsTweak [blockSize]byte

func (x *XTS) block(b []byte, t *xtsTweak, backwards bool) {
	subtle.XORBytes(b, b, t[:])
	if backwards {
		x.data.Decrypt(b, b)
	} else {
		x.data.Encrypt(b, b)
	}
	subtle.XORBytes(b, b, t[:])
}

// next multiplies the tweak by alpha in GF(2^128).
func (t *xtsTweak) next() {
	lo, hi := binary.LittleEndian.Uint64(t[:]), binary.LittleEndian.Uint64(t[8:])
	carry := -(hi >> 63) & 0x87
	binary.LittleEndian.PutUint64(t[8:], hi<<1|lo>>63)
	binary.LittleEndian.PutUint64(t[:], lo<<1^carry)
}
