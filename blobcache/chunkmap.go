package blobcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// A chunk map file (section 5.3), shared with nydusd:
//
//	0      4        8       12         16         4096
//	|magic |version |magic2 |all_ready |reserved  |bit 0 .. bit n-1, high bits first
//
// Native byte order. The last byte is followed by nothing: the size is exact.
const (
	chunkMapMagic    = 0x424D4150
	chunkMapMagic2   = 0x434D4150
	chunkMapReady    = 0x4D4D4150
	chunkMapVersion  = 1
	chunkMapHeader   = 4096
	chunkMapMagicAt  = 0
	chunkMapVerAt    = 4
	chunkMapMagic2At = 8
	chunkMapReadyAt  = 12
)

// errChunkMap is the class of chunk map files that can't be used.
var errChunkMap = errors.New("unusable chunk map")

// A chunkMap is a mapped chunk map file. Other processes change it, and may cut
// it short: a fault on the mapping is an error of the call and nothing else.
type chunkMap struct {
	mem    []byte
	id     os.FileInfo // of the file
	chunks uint32
	ro     bool
}

func chunkMapSize(chunks uint32) int64 { return chunkMapHeader + (int64(chunks)+7)/8 }

// openChunkMap maps f, whose place is allocated first if it is new: a store to a
// mapping can't report a full disk. It doesn't keep f.
func openChunkMap(f *os.File, chunks uint32, ro bool) (*chunkMap, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	want := chunkMapSize(chunks)
	if fi.Size() == 0 && !ro {
		if err := allocate(f, want); err != nil {
			return nil, fmt.Errorf("%w: allocate: %w", errChunkMap, err)
		}
	} else if fi.Size() != want {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errChunkMap, fi.Size(), want)
	}
	prot := unix.PROT_READ
	if !ro {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(want), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	m := &chunkMap{mem: mem, id: fi, chunks: chunks, ro: ro}
	if err := m.checkHeader(f); err != nil {
		_ = m.close()
		return nil, err
	}
	return m, nil
}

// allocate gives f its size and its blocks without overwriting what another process
// may have put there meanwhile.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return f.Truncate(size)
	}
	return err
}

// checkHeader accepts a header of version 0 or 1 and writes the one of a new file,
// which is all zero.
func (m *chunkMap) checkHeader(f *os.File) error {
	var h [16]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return err
	}
	magic := binary.NativeEndian.Uint32(h[chunkMapMagicAt:])
	version := binary.NativeEndian.Uint32(h[chunkMapVerAt:])
	magic2 := binary.NativeEndian.Uint32(h[chunkMapMagic2At:])
	switch {
	case h == [16]byte{} && !m.ro:
		binary.NativeEndian.PutUint32(h[chunkMapMagicAt:], chunkMapMagic)
		binary.NativeEndian.PutUint32(h[chunkMapVerAt:], chunkMapVersion)
		binary.NativeEndian.PutUint32(h[chunkMapMagic2At:], chunkMapMagic2)
		_, err := f.WriteAt(h[:chunkMapReadyAt], 0)
		return err
	case magic != chunkMapMagic:
		return fmt.Errorf("%w: magic %#x", errChunkMap, magic)
	case version > chunkMapVersion:
		return fmt.Errorf("%w: version %d", errChunkMap, version)
	case version == chunkMapVersion && magic2 != chunkMapMagic2:
		return fmt.Errorf("%w: second magic %#x", errChunkMap, magic2)
	}
	return nil
}

// place gives the byte and the bit of chunk i.
func (m *chunkMap) place(i rafs.ChunkIndex) (at uint64, mask uint32) {
	at = chunkMapHeader + uint64(i)/8
	return at, uint32(0x80>>(i%8)) << shiftOf(at)
}

// shiftOf is the position of a byte inside the word that word32 gives.
func shiftOf(at uint64) uint { return nativeShift[at&3] }

// nativeShift is the shift of each of a word's bytes in memory order.
var nativeShift = func() (shift [4]uint) {
	var b [4]byte
	for i := range b {
		b = [4]byte{}
		b[i] = 1
		shift[i] = uint(bits.TrailingZeros32(binary.NativeEndian.Uint32(b[:])))
	}
	return shift
}()

// has reports whether somebody says that chunk i is present.
func (m *chunkMap) has(i rafs.ChunkIndex) (set bool) {
	if uint32(i) >= m.chunks {
		return false
	}
	at, mask := m.place(i)
	_ = faulting(func() { set = atomic.LoadUint32(word32(m.mem, at))&mask != 0 })
	return set
}

// set says that chunk i is present. Preconditions: its bytes are visible in the
// data file.
func (m *chunkMap) set(i rafs.ChunkIndex) error {
	if m.ro || uint32(i) >= m.chunks {
		return nil
	}
	at, mask := m.place(i)
	return faulting(func() {
		if w := word32(m.mem, at); atomic.LoadUint32(w)&mask == 0 {
			atomic.OrUint32(w, mask)
		}
	})
}

// retain takes away the bits of chunks that keep doesn't have, and the mark that
// all are there, on the disk as well. A page that holds none of them is not written to:
// it may be a hole on a full disk.
func (m *chunkMap) retain(keep func(rafs.ChunkIndex) bool) error {
	err := faulting(func() {
		atomic.StoreUint32(word32(m.mem, chunkMapReadyAt), 0)
		for i := range rafs.ChunkIndex(m.chunks) {
			at, mask := m.place(i)
			if w := word32(m.mem, at); atomic.LoadUint32(w)&mask != 0 && !keep(i) {
				atomic.AndUint32(w, ^mask)
			}
		}
	})
	if err != nil {
		return err
	}
	return unix.Msync(m.mem, unix.MS_SYNC)
}

// setReady says that all chunks are present.
func (m *chunkMap) setReady() error {
	if m.ro {
		return nil
	}
	return faulting(func() { atomic.StoreUint32(word32(m.mem, chunkMapReadyAt), chunkMapReady) })
}

func (m *chunkMap) close() error { return unix.Munmap(m.mem) }

// faulting runs f, which touches a mapping that another process can cut short, and
// turns the fault that this raises into an error.
func faulting(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errChunkMap, r)
		}
	}()
	f()
	return nil
}
