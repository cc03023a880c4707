package localdisk

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"unicode/utf16"
)

// GPT header (UEFI 2.10, table 5.5), little-endian, in the second sector:
//
//	0          8          12     16    24   32   40        72       80     84          88
//	| EFI PART | revision | size | crc | -- | me | ...     | entries| count| entry size| crc of entries
const (
	headerLen   = 92
	signature   = "EFI PART"
	offSize     = 12
	offCRC      = 16
	offEntries  = 72
	offCount    = 80
	offEntryLen = 84
	offTableCRC = 88
)

// GPT entry (UEFI 2.10, table 5.6):
//
//	0      16     32      40     48      56
//	| type | GUID | first | last | flags | name, 36 UTF-16 units
const (
	entryLen  = 128
	offGUID   = 16
	offFirst  = 32
	offLast   = 40
	offName   = 56
	guidBytes = 16
)

// Bounds of a table. Ordinary ones have 128 entries of 128 bytes.
const (
	maxEnd      = math.MaxInt64 // of what a file can hold
	maxEntries  = 1024
	maxEntryLen = 4096
)

// basicData is EBD0A0A2-B9E5-4433-87C0-68B6B72699C7 as stored.
var basicData = [guidBytes]byte{0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7}

var (
	errNoTable = errors.New("no GUID partition table; set disable_gpt if the device is one blob")
	errTable   = errors.New("damaged GUID partition table")
)

// A part is one partition.
type part struct {
	name, guid string // guid without dashes, in lower case
	basic      bool
	off, size  uint64 // bytes
}

// choose finds the partition of a blob: by the whole id first.
func choose(parts []part, id string) (part, bool) {
	for _, p := range parts {
		if p.name+p.guid == id {
			return p, true
		}
	}
	for _, p := range parts {
		if p.basic && p.name != "" && p.name == id[:min(len(id), 32)] {
			return p, true
		}
	}
	return part{}, false
}

// readTable reads the primary table of a device with sectors of 512 or 4096 bytes.
func readTable(r io.ReaderAt) ([]part, error) {
	for _, sector := range []uint64{512, 4096} {
		var h [headerLen]byte
		if _, err := r.ReadAt(h[:], int64(sector)); err != nil || string(h[:len(signature)]) != signature {
			continue
		}
		return readEntries(r, &h, sector)
	}
	return nil, errNoTable
}

func readEntries(r io.ReaderAt, h *[headerLen]byte, sector uint64) ([]part, error) {
	le := binary.LittleEndian
	count, size, at := uint64(le.Uint32(h[offCount:])), uint64(le.Uint32(h[offEntryLen:])), le.Uint64(h[offEntries:])
	switch {
	case le.Uint32(h[offSize:]) != headerLen:
		return nil, fmt.Errorf("%w: header of %d bytes", errTable, le.Uint32(h[offSize:]))
	case headerCRC(*h) != le.Uint32(h[offCRC:]):
		return nil, fmt.Errorf("%w: checksum of the header", errTable)
	case count > maxEntries || size < entryLen || size > maxEntryLen || at > (maxEnd-maxEntries*maxEntryLen)/sector:
		return nil, fmt.Errorf("%w: %d entries of %d bytes in sector %d", errTable, count, size, at)
	}
	table := make([]byte, count*size)
	if _, err := r.ReadAt(table, int64(at*sector)); err != nil {
		return nil, fmt.Errorf("%w: entries: %w", errTable, err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[offTableCRC:]) {
		return nil, fmt.Errorf("%w: checksum of the entries", errTable)
	}
	var parts []part
	for ; len(table) > 0; table = table[size:] {
		if p, ok := parseEntry((*[entryLen]byte)(table), sector); ok {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// headerCRC is that of a header whose own is 0.
func headerCRC(h [headerLen]byte) uint32 {
	clear(h[offCRC:][:4])
	return crc32.ChecksumIEEE(h[:])
}

// parseEntry reads an entry; unused ones and those without an end are none.
func parseEntry(e *[entryLen]byte, sector uint64) (part, bool) {
	le := binary.LittleEndian
	kind := [guidBytes]byte(e[:guidBytes])
	first, last := le.Uint64(e[offFirst:]), le.Uint64(e[offLast:])
	if kind == [guidBytes]byte{} || first == 0 || first > last || last >= maxEnd/sector {
		return part{}, false
	}
	return part{
		name: name(e[offName:]), guid: guid([guidBytes]byte(e[offGUID:])), basic: kind == basicData,
		off: first * sector, size: (last - first + 1) * sector,
	}, true
}

// name is UTF-16 up to its first 0.
func name(p []byte) string {
	var units []uint16
	for ; len(p) > 1; p = p[2:] {
		u := binary.LittleEndian.Uint16(p)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// guid is the text of a GUID without dashes: its first three fields are
// little-endian.
func guid(g [guidBytes]byte) string {
	for _, field := range [][]byte{g[0:4], g[4:6], g[6:8]} {
		slices.Reverse(field)
	}
	return hex.EncodeToString(g[:])
}
