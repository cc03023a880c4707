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
func (c Compressor) String() string { return algorithmName("compressor", compressorNames, uint8(c)) }

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
func (d Digester) String() string { return algorithmName("digester", digesterNames, uint8(d)) }

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
func (c Cipher) String() string { return algorithmName("cipher", cipherNames, uint8(c)) }

// The names of algorithms, by id.
var (
	compressorNames = []string{CompressorNone: "none", CompressorLZ4: "lz4_block", CompressorGzip: "gzip", CompressorZstd: "zstd"}
	digesterNames   = []string{DigesterBLAKE3: "blake3", DigesterSHA256: "sha256"}
	cipherNames     = []string{CipherNone: "none", CipherAES128XTS: "aes-128-xts", CipherAES256XTS: "aes-256-xts", CipherAES256GCM: "aes-256-gcm"}
)

func algorithmName(kind string, names []string, id uint8) string {
	if int(id) < len(names) {
		return names[id]
	}
	return fmt.Sprintf("%s(%d)", kind, id)
}

// A Digest is a 32-byte BLAKE3 or SHA-256 digest.
type Digest [32]byte

// String gives the digest as 64 lower-case hex digits.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// IsZero reports whether every byte is zero, which formats use for "no digest".
func (d Digest) IsZero() bool { return d == Digest{} }
