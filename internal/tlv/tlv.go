// Package tlv is the encoding of saved state that the next and the previous
// release must be able to read.
//
//	0       8         10       12
//	| magic | version | reader | record | record | ...      little-endian
//
//	0     2        6
//	| tag | length | value ...        tag bit 15: the reader must know it
//
// version is the writer's; reader is the least version that can read the text.
// A record whose tag is unknown is skipped, unless its required bit is set: then
// the whole state is refused, before anything of it was used.
//
// Trust: a state comes from a file or a peer and may be anything; reading it costs
// time and memory in proportion to its length. Concurrency: an Encoder
// is used by one goroutine.
//
// Source: docs/decisions/0006-dev-fuse-loop.md and 0019-upgrade-in-place.md.
package tlv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrFormat is the class of texts that are no state, or a damaged one.
	ErrFormat = errors.New("malformed state")
	// ErrNewer is the class of states that only a newer program can read.
	ErrNewer = errors.New("state of a newer version")
)

// A Tag names a record. Tags are given out once and never reused.
type Tag uint16

// Required marks a tag that a reader must know.
const Required Tag = 1 << 15

const (
	headerSize = 12
	recordSize = 6
)

// An Encoder builds a state or, without Start, the value of a record that holds
// records.
type Encoder struct{ buf []byte }

// Start begins a state. magic must have eight bytes.
func Start(magic string, version, reader uint16) *Encoder {
	b := append([]byte(nil), magic[:8]...)
	b = binary.LittleEndian.AppendUint16(b, version)
	return &Encoder{binary.LittleEndian.AppendUint16(b, reader)}
}

// Bytes appends a record. The value must be shorter than 4 GiB.
func (e *Encoder) Bytes(tag Tag, value []byte) {
	e.buf = binary.LittleEndian.AppendUint16(e.buf, uint16(tag))
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(len(value)))
	e.buf = append(e.buf, value...)
}

// Text appends a record.
func (e *Encoder) Text(tag Tag, s string) { e.Bytes(tag, []byte(s)) }

// Uint appends a record of eight bytes.
func (e *Encoder) Uint(tag Tag, v uint64) {
	e.Bytes(tag, binary.LittleEndian.AppendUint64(nil, v))
}

// Nested appends a record that holds records.
func (e *Encoder) Nested(tag Tag, fill func(*Encoder)) {
	var inner Encoder
	fill(&inner)
	e.Bytes(tag, inner.buf)
}

// Finish returns the text.
func (e *Encoder) Finish() []byte { return e.buf }

// A Record is one tag with its value, which is part of the text.
type Record struct {
	Tag   Tag
	Value []byte
}

// Records splits p into its records, in order, leaving out optional ones that are
// not in known. A required one that is not there refuses p as a whole.
func Records(p []byte, known ...Tag) ([]Record, error) {
	var list []Record
	for len(p) > 0 {
		if len(p) < recordSize {
			return nil, fmt.Errorf("%w: %d bytes where a record should be", ErrFormat, len(p))
		}
		tag := Tag(binary.LittleEndian.Uint16(p))
		n := uint64(binary.LittleEndian.Uint32(p[2:]))
		if n > uint64(len(p)-recordSize) {
			return nil, fmt.Errorf("%w: record %#x of %d bytes, %d are left", ErrFormat, uint16(tag), n, len(p)-recordSize)
		}
		value := p[recordSize : recordSize+n : recordSize+n]
		p = p[recordSize+n:]
		switch {
		case slices.Contains(known, tag):
			list = append(list, Record{tag, value})
		case tag&Required != 0:
			return nil, fmt.Errorf("%w: required record %#x", ErrNewer, uint16(tag))
		}
	}
	return list, nil
}

// Read checks the header of a state against what this program reads and splits what
// follows as Records does.
func Read(p []byte, magic string, version uint16, known ...Tag) ([]Record, error) {
	if len(p) < headerSize || string(p[:8]) != magic {
		return nil, fmt.Errorf("%w: no %q at its start", ErrFormat, magic)
	}
	if reader := binary.LittleEndian.Uint16(p[10:]); reader > version {
		return nil, fmt.Errorf("%w: needs version %d, this program has %d", ErrNewer, reader, version)
	}
	return Records(p[headerSize:], known...)
}

// Uint decodes the value of a record made by Encoder.Uint.
func (r Record) Uint() (uint64, error) {
	if len(r.Value) != 8 {
		return 0, fmt.Errorf("%w: record %#x: number of %d bytes", ErrFormat, uint16(r.Tag), len(r.Value))
	}
	return binary.LittleEndian.Uint64(r.Value), nil
}
