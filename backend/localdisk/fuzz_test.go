package localdisk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// FuzzTable reads devices whose checksums are right and nothing else is sure.
func FuzzTable(f *testing.F) {
	f.Fuzz(func(t *testing.T, disk []byte) {
		if len(disk) >= 512+headerLen {
			h := (*[headerLen]byte)(disk[512:])
			le := binary.LittleEndian
			le.PutUint32(h[offSize:], headerLen)
			start, size := le.Uint64(h[offEntries:]), uint64(le.Uint32(h[offCount:]))*uint64(le.Uint32(h[offEntryLen:]))
			if at := start * 512; start < 1<<20 && at <= uint64(len(disk)) && size <= uint64(len(disk))-at {
				le.PutUint32(h[offTableCRC:], crc32.ChecksumIEEE(disk[at:][:size]))
			}
			le.PutUint32(h[offCRC:], headerCRC(*h))
		}
		parts, err := readTable(bytes.NewReader(disk))
		if err != nil && parts != nil || len(parts) > maxEntries {
			t.Fatalf("%d partitions, %v", len(parts), err)
		}
		for _, p := range parts {
			if p.size == 0 || p.off == 0 || p.off > maxEnd || p.size > maxEnd-p.off || len(p.guid) != 32 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
