package testtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

const digestBlock = 4096

var zeroBlock [digestBlock]byte

// A ContentDigest computes an Entry's Digest from the bytes of a file.
type ContentDigest struct{ h hash.Hash }

// NewContentDigest starts with an empty file.
func NewContentDigest() *ContentDigest { return &ContentDigest{sha256.New()} }

// Add takes the bytes at off, a multiple of 4096. Calls come in the order of
// their offsets; what lies between them is zeros, and only the file's last
// bytes may end inside a block.
func (d *ContentDigest) Add(p []byte, off int64) {
	var at [8]byte
	for len(p) > 0 {
		block := p[:min(digestBlock, len(p))]
		if !bytes.Equal(block, zeroBlock[:len(block)]) {
			binary.LittleEndian.PutUint64(at[:], uint64(off))
			d.h.Write(at[:])
			d.h.Write(block)
		}
		p = p[len(block):]
		off += int64(len(block))
	}
}

// Sum is the digest of a file of size bytes. Nothing may be added after it.
func (d *ContentDigest) Sum(size int64) string {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(size))
	d.h.Write(n[:])
	return hex.EncodeToString(d.h.Sum(nil))
}
