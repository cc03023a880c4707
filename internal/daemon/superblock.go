package daemon

import (
	"encoding/binary"

	"vrafs/api"
	"vrafs/rafs"
)

// validFor is the lifetime of entries and attributes of an image, in seconds.
const validFor = 1 << 32

// superBlock summarises an opened bootstrap for GET backend. The fields of the
// other version stay zero.
func superBlock(im *rafs.Image, boot []byte) api.SuperBlock {
	s := api.SuperBlock{
		RootInode:   uint64(im.Root()),
		ChunkSize:   im.ChunkSize(),
		InodesCount: im.InodeCount(),
		Flags:       uint64(im.Flags()),
		AttrTimeout: api.Duration{Secs: validFor}, EntryTimeout: api.Duration{Secs: validFor},
	}
	if im.Version() == rafs.V5 {
		superV5(&s, boot)
	} else {
		superV6(&s, boot)
	}
	return s
}

func superV5(s *api.SuperBlock, p []byte) {
	s.Version = rafs.V5FSVersion
	s.Magic = at32(p, rafs.V5SuperMagicAt)
	s.SbSize = at32(p, rafs.V5SuperSizeAt)
	s.InodeTableEntries = at32(p, rafs.V5SuperInodeEntriesAt)
	s.InodeTableOffset = at64(p, rafs.V5SuperInodeTableAt)
	s.BlobTableSize = at32(p, rafs.V5SuperBlobTableSizeAt)
	s.BlobTableOffset = at64(p, rafs.V5SuperBlobTableAt)
	s.ExtendedBlobTableOffset = at64(p, rafs.V5SuperExtTableAt)
	s.ExtendedBlobTableEntries = at32(p, rafs.V5SuperExtEntriesAt)
	s.PrefetchTableOffset = at64(p, rafs.V5SuperPrefetchTableAt)
	s.PrefetchTableEntries = at32(p, rafs.V5SuperPrefetchEntriesAt)
}

func superV6(s *api.SuperBlock, p []byte) {
	const sb, ext = rafs.V6SuperOff, rafs.V6ExtOff
	s.Version = 0x600
	s.Magic = at32(p, sb+rafs.V6SuperMagicAt)
	s.SbSize = rafs.V6SuperSize
	s.BlobTableSize = at32(p, ext+rafs.V6ExtBlobTableSizeAt)
	s.BlobTableOffset = at64(p, ext+rafs.V6ExtBlobTableAt)
	s.BlobDeviceTableCount = uint32(at16(p, sb+rafs.V6SuperExtraDevicesAt))
	s.BlobDeviceTableOffset = uint64(at16(p, sb+rafs.V6SuperDevtSlotOffAt)) * rafs.V6DeviceSize
	s.PrefetchTableOffset = at64(p, ext+rafs.V6ExtPrefetchTableAt)
	s.PrefetchTableEntries = at32(p, ext+rafs.V6ExtPrefetchTableSizeAt) / 4
	s.MetaBlkaddr = at32(p, sb+rafs.V6SuperMetaBlkaddrAt)
	s.RootNid = uint64(at16(p, sb+rafs.V6SuperRootNidAt))
	s.ChunkTableOffset = at64(p, ext+rafs.V6ExtChunkTableAt)
	s.ChunkTableSize = at64(p, ext+rafs.V6ExtChunkTableSizeAt)
}

func at16(p []byte, off int) uint16 { return binary.LittleEndian.Uint16(p[off:]) }
func at32(p []byte, off int) uint32 { return binary.LittleEndian.Uint32(p[off:]) }
func at64(p []byte, off int) uint64 { return binary.LittleEndian.Uint64(p[off:]) }
