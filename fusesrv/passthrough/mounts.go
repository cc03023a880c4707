package passthrough

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A mount is one of the host's mounts that the guest knows something of. It stays as
// long as a node of it does, also when it was unmounted.
type mount struct {
	number uint32
	fd     int  // to open handles with, not O_PATH; -1: none
	byName bool // handles can be had by name: the inode number in them is known
	local  bool // nothing there waits for a network
	memory bool // nor for a disk
	asked  bool // whether there are handles has been found out
	uses   int64
}

// mounts is the mounts by number. Their fields but uses do not change. The kernel gives a number out again only when nobody
// holds the mount.
type mounts struct {
	mu sync.RWMutex
	m  map[uint32]*mount
}

// get returns a mount that a node of it is held of.
func (t *mounts) get(number uint32) *mount {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[number]
}

// use takes one use more of a mount that is known.
func (t *mounts) use(number uint32) *mount {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[number]
	if m != nil {
		m.uses++
	}
	return m
}

// add makes a mount known and takes a use of it. If it is known already, the
// descriptor is not needed.
func (t *mounts) add(m mount) (_ *mount, took bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.m[m.number]; old != nil {
		old.uses++
		if old.fd >= 0 || old.asked || !m.asked {
			return old, false
		}
		m.uses = old.uses // others may be reading the old one
	} else {
		m.uses = 1
	}
	t.m[m.number] = &m
	return &m, true
}

// leave gives a use back, and returns the descriptor of a mount that nobody uses any
// more, -1 if there is none to close.
func (t *mounts) leave(number uint32) (fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[number]
	if m == nil {
		return -1
	}
	if m.uses--; m.uses != 0 {
		return -1
	}
	delete(t.m, number)
	return m.fd
}

// each calls f for every mount with a descriptor.
func (t *mounts) each(f func(m *mount)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, m := range t.m {
		if m.fd >= 0 {
			f(m)
		}
	}
}

// localTypes are the file systems that wait for nothing but memory and disks
// (statfs(2), f_type), memoryTypes those that wait for memory alone
// (and for swap, which makes everything wait).
var (
	localTypes = map[int64]bool{
		unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.F2FS_SUPER_MAGIC: true,
		unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.EROFS_SUPER_MAGIC_V1: true, unix.SQUASHFS_MAGIC: true,
		unix.OVERLAYFS_SUPER_MAGIC: true, unix.HUGETLBFS_MAGIC: true, zfsMagic: true, bcachefsMagic: true,
	}
	memoryTypes = map[int64]bool{unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.HUGETLBFS_MAGIC: true}
)

const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
)

// medium finds out what calls on the mount of a descriptor wait for.
func (m *mount) medium(fd int) {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) == nil {
		m.local, m.memory = localTypes[int64(st.Type)], memoryTypes[int64(st.Type)]
	}
}
