package blobcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// A verified sidecar (<id>.chunk_map), written by this program only:
//
//	0      8        16       32   40   48          56         60      4096
//	|magic |version |boot id |dev |ino |birth sec  |birth ns  |CRC-32C|proof 0 .. proof n-1
//
// Little-endian. It is void unless it was made in this boot for this data file:
// what was in the page cache may not have reached the disk. Entries are read and
// written by pread and pwrite: no page of it is mapped, a torn or a lost entry is
// a proof that fits nothing, and the file may end anywhere.
const (
	sidecarMagic   = "vrafs\x00vf"
	sidecarVersion = 2
	sidecarHeader  = 64
	sidecarSumAt   = 60
	sidecarEntries = 4096
)

// A proof stands for "the bytes at this place had this digest". Zero is no proof.
//
//	0       8     12                                          32
//	|offset |size |hash over offset, size, digester and digest|
type proof [32]byte

const (
	proofSizeAt = 8
	proofHashAt = 12
)

// proofOf gives the proof that c needs.
func proofOf(d rafs.Digester, c *rafs.Chunk) (p proof) {
	binary.LittleEndian.PutUint64(p[:], c.Off)
	binary.LittleEndian.PutUint32(p[proofSizeAt:], c.Size)
	var b [proofHashAt + 2 + len(c.Digest)]byte
	copy(b[:], p[:proofHashAt])
	b[proofHashAt] = byte(d)
	if c.HasDigest {
		b[proofHashAt+1] = 1
		copy(b[proofHashAt+2:], c.Digest[:])
	}
	sum := codec.Sum(rafs.DigesterBLAKE3, b[:])
	copy(p[proofHashAt:], sum[:])
	return p
}

// place gives what p is about.
func (p *proof) place() (off, size uint64) {
	return binary.LittleEndian.Uint64(p[:]), uint64(binary.LittleEndian.Uint32(p[proofSizeAt:]))
}

// An identity tells one boot's data file from any other.
type identity struct {
	boot     [16]byte
	dev, ino uint64
	sec      int64
	nsec     uint32
}

// identify gives the identity of a data file. File systems that keep no birth
// time can't tell a file from a successor with the same number, so there is none.
func identify(f *os.File, boot [16]byte) (identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return identity{}, fmt.Errorf("statx: %w", err)
	}
	if st.Mask&unix.STATX_BTIME == 0 || boot == [16]byte{} {
		return identity{}, errors.New("no birth time or no boot id")
	}
	return identity{
		boot: boot, dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino,
		sec: st.Btime.Sec, nsec: st.Btime.Nsec,
	}, nil
}

func (id *identity) header() (h [sidecarHeader]byte) {
	copy(h[:], sidecarMagic)
	le := binary.LittleEndian
	le.PutUint64(h[8:], sidecarVersion)
	copy(h[16:], id.boot[:])
	le.PutUint64(h[32:], id.dev)
	le.PutUint64(h[40:], id.ino)
	le.PutUint64(h[48:], uint64(id.sec))
	le.PutUint32(h[56:], id.nsec)
	le.PutUint32(h[sidecarSumAt:], codec.CRC32C(h[:sidecarSumAt]))
	return h
}

// readBootID reads the kernel's id of this boot.
func readBootID(o opener.Opener) (id [16]byte, err error) {
	f, err := o.Open("/proc/sys/kernel/random/boot_id", os.O_RDONLY, 0)
	if err != nil {
		return id, err
	}
	defer f.Close()
	var b [64]byte
	n, err := f.Read(b[:])
	if err != nil {
		return id, err
	}
	hex := strings.ReplaceAll(strings.TrimSpace(string(b[:n])), "-", "")
	if len(hex) != 32 {
		return id, fmt.Errorf("boot id of %d digits", len(hex))
	}
	for i := range id {
		if _, err := fmt.Sscanf(hex[2*i:2*i+2], "%02x", &id[i]); err != nil {
			return id, fmt.Errorf("boot id: %w", err)
		}
	}
	return id, nil
}

// A sidecar is an open verified sidecar.
type sidecar struct {
	f  *os.File
	id os.FileInfo // of f
}

// newSidecar takes f over.
func newSidecar(f *os.File) (*sidecar, error) {
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &sidecar{f, fi}, nil
}

// openSidecar opens the sidecar at path if it is valid for id and trust is set,
// else it puts a new one in its place. A process that has the old one open goes on
// with a file that nobody else sees.
func openSidecar(o opener.Opener, path string, id identity, trust bool) (*sidecar, error) {
	want := id.header()
	if trust {
		f, err := o.Open(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err == nil {
			var h [sidecarHeader]byte
			if _, err := f.ReadAt(h[:], 0); err == nil && h == want {
				s, err := newSidecar(f)
				if err == nil {
					s.touch()
				}
				return s, err
			}
			f.Close()
		}
	}
	temp := tempName(path)
	f, err := o.Open(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(want[:], 0); err == nil {
		err = o.Rename(temp, path)
	}
	if err != nil {
		f.Close()
		_ = o.Remove(temp)
		return nil, err
	}
	return newSidecar(f)
}

// tempCount makes names of temporary files unique in this process.
var tempCount atomic.Uint64

// tempName names a new file beside path that will be renamed to it.
func tempName(path string) string {
	return fmt.Sprintf("%s.%d.%d.tmp", path, os.Getpid(), tempCount.Add(1))
}

// read gives the proof of chunk i, zero if there is none.
func (s *sidecar) read(i rafs.ChunkIndex) (p proof) {
	if n, _ := s.f.ReadAt(p[:], sidecarPlace(i)); n != len(p) {
		return proof{}
	}
	return p
}

// write notes the proof of chunk i. Preconditions: the bytes are visible in the
// data file and their digest was compared.
func (s *sidecar) write(i rafs.ChunkIndex, p proof) error {
	_, err := s.f.WriteAt(p[:], sidecarPlace(i))
	return err
}

// retain takes away the proofs of bytes that keep doesn't have.
func (s *sidecar) retain(keep func(off, size uint64) bool) error {
	const all = int64(rafs.MaxChunksPerBlob) * int64(len(proof{}))
	return rewrite(s.f, sidecarEntries, all, func(_ int64, piece []byte) (changed bool) {
		for len(piece) > 0 {
			var p proof
			n := copy(p[:], piece)
			if p != (proof{}) && !keep(p.place()) {
				clear(piece[:n])
				changed = true
			}
			piece = piece[n:]
		}
		return changed
	})
}

// touch notes that the blob was used now, for who looks for the least recently used
// one.
func (s *sidecar) touch() {
	var now [2]unix.Timespec
	now[0].Nsec, now[1].Nsec = unix.UTIME_NOW, unix.UTIME_NOW
	_ = unix.UtimesNanoAt(int(s.f.Fd()), "", now[:], unix.AT_EMPTY_PATH)
}

func sidecarPlace(i rafs.ChunkIndex) int64 { return sidecarEntries + int64(i)*int64(len(proof{})) }

func (s *sidecar) close() error {
	s.touch()
	return s.f.Close()
}
