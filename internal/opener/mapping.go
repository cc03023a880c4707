package opener

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxMapping bounds what MapBootstrap copies or maps: v5 bootstraps end at
// 2 GiB, v6 ones at 2^32 blocks, of which no known image uses more than this.
const maxMapping = 64 << 30

// A Mapping is a read-only view of a file's bytes.
type Mapping struct {
	mem    []byte
	copied bool
}

// Bytes is the mapped memory. It must not be used after Close.
func (m *Mapping) Bytes() []byte { return m.mem }

// Copied reports whether the mapping is of a sealed private copy, which nobody
// can change or cut short, and not of the file itself.
func (m *Mapping) Copied() bool { return m.copied }

// Close unmaps the memory.
func (m *Mapping) Close() error {
	mem := m.mem
	m.mem = nil
	if mem == nil {
		return nil
	}
	return unix.Munmap(mem)
}

// MapBootstrap maps the regular file at path. If its file system is not known to
// be local the mapping is of a sealed copy in memory.
//
// A file on a local file system can still be changed or truncated by whoever may
// write it. Changed bytes are as hostile as an image always is; truncation
// raises SIGBUS, which goroutines that read the mapping turn into an error with
// debug.SetPanicOnFault. Where that is not acceptable use MapCopy.
func MapBootstrap(o Opener, path string) (*Mapping, error) {
	return mapFile(o, path, false)
}

// MapCopy maps a sealed copy of the file at path, wherever it lies.
func MapCopy(o Opener, path string) (*Mapping, error) {
	return mapFile(o, path, true)
}

func mapFile(o Opener, path string, private bool) (*Mapping, error) {
	f, fi, err := Regular(o, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := fi.Size()
	if size == 0 || size > maxMapping {
		return nil, fmt.Errorf("map %s: %d bytes", path, size)
	}
	if !private && !IsLocal(f) {
		private = true
	}
	if private {
		m, err := Seal(f, size)
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", path, err)
		}
		return m, nil
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Mapping{mem: mem}, nil
}

// Seal copies size bytes of r into a memory file, seals it against every change
// and maps it. Fewer bytes in r are an error.
func Seal(r io.Reader, size int64) (*Mapping, error) {
	if size <= 0 || size > maxMapping {
		return nil, fmt.Errorf("seal %d bytes", size)
	}
	fd, err := unix.MemfdCreate("vrafs-sealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "vrafs-sealed")
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, size))
	if err != nil {
		return nil, fmt.Errorf("copy to memory: %w", err)
	}
	if n != size {
		return nil, fmt.Errorf("copy to memory: %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	return &Mapping{mem: mem, copied: true}, nil
}

// Memory is zeroed, writable, private memory off the Go heap, for tables that are
// large and without pointers. Its pages cost nothing before they are written.
func Memory(size uint64) (*Mapping, error) {
	if size == 0 || size > maxMapping {
		return nil, fmt.Errorf("map %d bytes", size)
	}
	mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return &Mapping{mem: mem, copied: true}, nil
}

// Freeze makes a mapping read-only for the rest of its life.
func (m *Mapping) Freeze() error {
	if m.mem == nil {
		return errors.New("freeze: mapping is closed")
	}
	return unix.Mprotect(m.mem, unix.PROT_READ)
}
