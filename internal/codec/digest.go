package codec

import (
	"crypto/sha256"
	"hash"
	"hash/crc32"

	"github.com/zeebo/blake3"

	"vrafs/rafs"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the Castagnoli checksum of p as chunk infos store it.
func CRC32C(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Sum is the digest of p. An unknown digester gives the zero digest, which no
// caller may take for a match: rafs refuses such blobs at open.
func Sum(d rafs.Digester, p []byte) rafs.Digest {
	switch d {
	case rafs.DigesterBLAKE3:
		return blake3.Sum256(p)
	case rafs.DigesterSHA256:
		return sha256.Sum256(p)
	}
	return rafs.Digest{}
}

// NewHash is the streaming form of Sum, or nil for an unknown digester.
func NewHash(d rafs.Digester) hash.Hash {
	switch d {
	case rafs.DigesterBLAKE3:
		return blake3.New()
	case rafs.DigesterSHA256:
		return sha256.New()
	}
	return nil
}
