package passthrough

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	chunkBytes = chunkSize * recordSize
	// memorySeals keep the file as long as it is: a record is never behind its end.
	memorySeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// A memory is where the records of nodes lie: a memory file, since a process that goes on
// with its descriptor finds them there. Its pages cost nothing before they are written.
type memory struct {
	fd int
	b  []byte
}

// newMemory makes memory for the slots up to last.
func newMemory(last uint32) (memory, error) {
	fd, err := unix.MemfdCreate("vrafs-nodes", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return memory{fd: -1}, fmt.Errorf("memory for nodes: %w", err)
	}
	err = unix.Ftruncate(fd, (int64(last)>>chunkBits+1)*chunkBytes)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, memorySeals)
	}
	var m memory
	if err == nil {
		m, err = mapMemory(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return memory{fd: -1}, fmt.Errorf("memory for nodes: %w", err)
	}
	return m, nil
}

// mapMemory maps a file that newMemory has made. The descriptor is the memory's, if there
// is no error.
func mapMemory(fd int) (memory, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return memory{fd: -1}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return memory{fd: -1}, err
	}
	if seals&memorySeals != memorySeals || st.Size <= 0 || st.Size > maxSlots*recordSize || st.Size%chunkBytes != 0 {
		return memory{fd: -1}, errors.New("it is no table of nodes")
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return memory{fd: -1}, err
	}
	return memory{fd, b}, nil
}

// slots is how many records there is room for.
func (m *memory) slots() uint32 { return uint32(len(m.b) / recordSize) }

// clearFrom empties the records from a slot on.
func (m *memory) clearFrom(slot uint32) error {
	off := int64(slot) * recordSize
	if off == int64(len(m.b)) {
		return nil
	}
	if err := unix.Fallocate(m.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(len(m.b))-off); err != nil {
		return fmt.Errorf("memory for nodes: %w", err)
	}
	return nil
}

// detach goes over to a copy of the records up to last. After an error the memory is what
// it was.
func (m *memory) detach(last uint32) error {
	c, err := newMemory(m.slots() - 1)
	if err != nil {
		return err
	}
	n := (int(last) + 1) * recordSize
	copy(c.b[:n], m.b[:n])
	m.close()
	*m = c
	return nil
}

// chunk is where the records of a chunk lie.
func (m *memory) chunk(n uint32) []byte { return m.b[int(n)*chunkBytes : (int(n)+1)*chunkBytes] }

// close gives the memory up. Nobody may look at a record any more.
func (m *memory) close() {
	if m.b == nil {
		return
	}
	_ = unix.Munmap(m.b) // it is mapped
	_ = unix.Close(m.fd)
	*m = memory{fd: -1}
}
