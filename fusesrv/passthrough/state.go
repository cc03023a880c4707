package passthrough

import (
	"encoding/binary"
	"fmt"
	"math"

	"vrafs/internal/tlv"
)

// The state of an FS: what the program needs that takes this one's place in the same
// process. Descriptors are numbers. The records of nodes are not in it, but their memory
// file is.
//
//	state   layout of records | slots taken | memory | root | file generation | mounts | lives | files
//	mount   number (4) | descriptor (4) | flags (4)
//	life    slot (4) | descriptor (4) | maker (4) | pinned (1) | nascent (1) | 0 (2)
//	file    handle (8) | node (8) | device (8) | place (8) | descriptor (4) | flags (4)
//
// All are little-endian, and a descriptor of -1 is none. Every record is written always, the
// lists also when they are empty: a program that was asked about a state of another
// moment has seen all that it has to know. What changes the form of an entry, or of a
// node, therefore needs another required record or layout. A flag that is not known is
// left out, so that new ones may say only what can be found out or done without.
const (
	stateMagic   = "vrafspas"
	stateVersion = 1
	stateReader  = 1

	tagLayout     = 1 | tlv.Required
	tagTaken      = 2 | tlv.Required
	tagMemory     = 3 | tlv.Required
	tagRoot       = 4 | tlv.Required
	tagGeneration = 5 | tlv.Required
	tagMounts     = 6 | tlv.Required
	tagLives      = 7 | tlv.Required
	tagFiles      = 8 | tlv.Required

	// recordLayout is the number of what record is. Who changes that changes this.
	recordLayout = 1

	savedMountSize = 12
	savedLifeSize  = 16
	savedFileSize  = 40

	mountByName = 1 << 0
	mountLocal  = 1 << 1
	mountAsked  = 1 << 2
	mountMemory = 1 << 3

	fileIsDir   = 1 << 0
	fileChanges = 1 << 1
	fileLocal   = 1 << 2
	fileSlow    = 1 << 3
	fileMemory  = 1 << 4

	mountFlags = mountByName | mountLocal | mountAsked | mountMemory
	fileFlags  = fileIsDir | fileChanges | fileLocal | fileSlow | fileMemory
)

// A savedState is a decoded state. Its descriptors are numbers still.
type savedState struct {
	taken        uint32 // slots
	memory, root int32
	generation   uint64 // the highest of a file handle
	mounts       []savedMount
	lives        []savedLife
	files        []savedFile
}

type savedMount struct {
	number uint32
	fd     int32
	flags  uint32
}

type savedLife struct {
	slot    uint32
	fd      int32
	maker   uint32
	pinned  bool
	nascent uint8
}

type savedFile struct {
	fh, node, dev, at uint64
	fd                int32
	flags             uint32
}

func (s *savedState) encode() []byte {
	le := binary.LittleEndian
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	e.Uint(tagLayout, recordLayout)
	e.Uint(tagTaken, uint64(s.taken))
	e.Uint(tagMemory, uint64(s.memory))
	e.Uint(tagRoot, uint64(s.root))
	e.Uint(tagGeneration, s.generation)
	b := make([]byte, 0, len(s.mounts)*savedMountSize)
	for _, m := range s.mounts {
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, m.number), uint32(m.fd)), m.flags)
	}
	e.Bytes(tagMounts, b)
	b = make([]byte, 0, len(s.lives)*savedLifeSize)
	for _, l := range s.lives {
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, l.slot), uint32(l.fd)), l.maker)
		b = append(b, byte(bit(l.pinned, 1)), l.nascent, 0, 0)
	}
	e.Bytes(tagLives, b)
	b = make([]byte, 0, len(s.files)*savedFileSize)
	for _, f := range s.files {
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(le.AppendUint64(b, f.fh), f.node), f.dev), f.at)
		b = le.AppendUint32(le.AppendUint32(b, uint32(f.fd)), f.flags)
	}
	e.Bytes(tagFiles, b)
	return e.Finish()
}

func bit(on bool, b uint32) uint32 {
	if on {
		return b
	}
	return 0
}

// decodeState reads a state without looking at its descriptors.
func decodeState(state []byte) (*savedState, error) {
	records, err := tlv.Read(state, stateMagic, stateVersion, tagLayout, tagTaken, tagMemory, tagRoot, tagGeneration, tagMounts, tagLives, tagFiles)
	if err != nil {
		return nil, err
	}
	s := &savedState{}
	seen := map[tlv.Tag]bool{}
	for _, r := range records {
		if seen[r.Tag] {
			return nil, fmt.Errorf("%w: record %#x twice", tlv.ErrFormat, uint16(r.Tag))
		}
		seen[r.Tag] = true
		if err := s.read(r); err != nil {
			return nil, err
		}
	}
	if len(seen) != 8 {
		return nil, fmt.Errorf("%w: %d of 8 records", tlv.ErrFormat, len(seen))
	}
	return s, nil
}

// read takes one record in.
func (s *savedState) read(r tlv.Record) (err error) {
	switch r.Tag {
	case tagMounts:
		s.mounts, err = entries(r, savedMountSize, maxSlots, readMount)
		return err
	case tagLives:
		s.lives, err = entries(r, savedLifeSize, maxSlots, readLife)
		return err
	case tagFiles:
		s.files, err = entries(r, savedFileSize, maxFiles, readFile)
		return err
	}
	n, err := r.Uint()
	if err != nil {
		return err
	}
	limit := uint64(math.MaxInt32)
	switch r.Tag {
	case tagLayout:
		if n != recordLayout {
			return fmt.Errorf("%w: nodes of layout %d, this program knows %d", tlv.ErrNewer, n, recordLayout)
		}
	case tagTaken:
		limit = maxSlots - 1
		if s.taken = uint32(min(n, limit)); n < rootID {
			return fmt.Errorf("%w: no slot is taken", tlv.ErrFormat)
		}
	case tagMemory:
		s.memory = int32(min(n, limit))
	case tagRoot:
		s.root = int32(min(n, limit))
	case tagGeneration:
		limit = maxFileGen
		s.generation = n
	}
	if n > limit {
		return fmt.Errorf("%w: record %#x: %d, at most %d", tlv.ErrFormat, uint16(r.Tag), n, limit)
	}
	return nil
}

// entries reads a list of entries of size bytes, of which there may be so many.
func entries[T any](r tlv.Record, size, most int, read func(b []byte) (T, error)) ([]T, error) {
	n := len(r.Value) / size
	if len(r.Value)%size != 0 || n > most {
		return nil, fmt.Errorf("%w: record %#x of %d bytes, entries have %d and are at most %d", tlv.ErrFormat, uint16(r.Tag), len(r.Value), size, most)
	}
	list := make([]T, n)
	for i := range list {
		var err error
		if list[i], err = read(r.Value[i*size : (i+1)*size]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func readMount(b []byte) (m savedMount, err error) {
	le := binary.LittleEndian
	m = savedMount{le.Uint32(b), int32(le.Uint32(b[4:])), le.Uint32(b[8:]) & mountFlags}
	if m.fd < -1 {
		err = fmt.Errorf("%w: mount %d: descriptor %d", tlv.ErrFormat, m.number, m.fd)
	}
	return m, err
}

func readLife(b []byte) (l savedLife, err error) {
	le := binary.LittleEndian
	l = savedLife{le.Uint32(b), int32(le.Uint32(b[4:])), le.Uint32(b[8:]), b[12] == 1, b[13]}
	if l.slot <= rootID || l.slot >= maxSlots || l.fd < -1 || l.nascent > hasMode || b[12] > 1 || b[14] != 0 || b[15] != 0 {
		err = fmt.Errorf("%w: node in slot %d: %x", tlv.ErrFormat, l.slot, b)
	}
	return l, err
}

func readFile(b []byte) (f savedFile, err error) {
	le := binary.LittleEndian
	f = savedFile{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]), int32(le.Uint32(b[32:])), le.Uint32(b[36:]) & fileFlags}
	if f.fh&fileMask == 0 || f.fh>>fileBits > maxFileGen || f.fd < 0 {
		err = fmt.Errorf("%w: file handle %#x: descriptor %d", tlv.ErrFormat, f.fh, f.fd)
	}
	return f, err
}

// CheckState reports whether Resume could read a state, as far as that can be told
// without its descriptors.
func CheckState(state []byte) error {
	_, err := decodeState(state)
	return err
}

// fds calls each for every descriptor of a state.
func (s *savedState) fds(each func(fd int)) {
	s.places(func(fd *int32) {
		if *fd >= 0 {
			each(int(*fd))
		}
	})
}

// places calls each for every place where a descriptor, or -1 for none, is in a state.
func (s *savedState) places(each func(fd *int32)) {
	each(&s.memory)
	each(&s.root)
	for i := range s.mounts {
		each(&s.mounts[i].fd)
	}
	for i := range s.lives {
		each(&s.lives[i].fd)
	}
	for i := range s.files {
		each(&s.files[i].fd)
	}
}
