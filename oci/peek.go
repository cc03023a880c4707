package oci

import (
	"bufio"
	"bytes"
	"io"
)

// Magic numbers of compressed streams (RFC 1952, RFC 8878).
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

func isGzip(head []byte) bool { return bytes.HasPrefix(head, gzipMagic) }

func isZstd(head []byte) bool { return bytes.HasPrefix(head, zstdMagic) }

// A peeker shows the first bytes of a stream before they are read.
type peeker struct{ *bufio.Reader }

func newPeeker(r io.Reader) peeker { return peeker{bufio.NewReaderSize(r, 256<<10)} }

// head is the beginning of the stream; shorter at its end, empty if it cannot be read:
// the error comes again with the first read.
func (p peeker) head() []byte {
	head, _ := p.Peek(4)
	return head
}
