package rafs

import "fmt"

// A Compressor says how the stored bytes of a chunk are framed (RAFS, section 3).
type Compressor uint8

// Compressor ids as stored in the v6 blob table and the blob meta header.
const (
	CompressorNone Compressor = 0 // raw bytes
	CompressorLZ4  Compressor = 1 // one raw LZ4 block, no frame and no size prefix
	CompressorGzip Compressor = 2 // one gzip member per chunk, or a zran slice
	CompressorZstd Compressor = 3 // one zstd frame per chunk
)

// String gives the name used on command lines and in JSON.
func (c Compressor) String() string {
	switch c {
	case CompressorNone:
		return "none"
	case CompressorLZ4:
		return "lz4_block"
	case CompressorGzip:
		return "gzip"
	case CompressorZstd:
		return "zstd"
	}
	return fmt.Sprintf("compressor(%d)", uint8(c))
}

// Valid reports whether c is a known id.
func (c Compressor) Valid() bool { return c <= CompressorZstd }

// A Digester is the hash of chunks and, in v5, of inodes (RAFS, section 3).
type Digester uint8

// Digester ids as stored in the v6 blob table.
const (
	DigesterBLAKE3 Digester = 0 // BLAKE3, 32-byte output, no key
	DigesterSHA256 Digester = 1
)

// String gives the name used on command lines and in JSON.
func (d Digester) String() string {
	switch d {
	case DigesterBLAKE3:
		return "blake3"
	case DigesterSHA256:
		return "sha256"
	}
	return fmt.Sprintf("digester(%d)", uint8(d))
}

// Valid reports whether d is a known id.
func (d Digester) Valid() bool { return d <= DigesterSHA256 }

// A Cipher says how stored chunks are encrypted (RAFS, sections 3 and 4.9).
type Cipher uint8

// Cipher ids. Only none and AES-128-XTS can be read.
const (
	CipherNone      Cipher = 0
	CipherAES128XTS Cipher = 1
	CipherAES256XTS Cipher = 2
	CipherAES256GCM Cipher = 3
)

// String gives the cipher's name.
func (c Cipher) String() string {
	switch c {
	case CipherNone:
		return "none"
	case CipherAES128XTS:
		return "aes-128-xts"
	case CipherAES256XTS:
		return "aes-256-xts"
	case CipherAES256GCM:
		return "aes-256-gcm"
	}
	return fmt.Sprintf("cipher(%d)", uint8(c))
}

// A Digest is a 32-byte BLAKE3 or SHA-256 digest.
type Digest [32]byte

// String gives the digest as 64 lower-case hex digits.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// IsZero reports whether every byte is zero, which formats use for "no digest".
func (d Digest) IsZero() bool { return d == Digest{} }
