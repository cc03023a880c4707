package opener

import (
	"os"

	"golang.org/x/sys/unix"
)

// f2fsMagic is missing from x/sys; the value is the kernel's F2FS_SUPER_MAGIC.
const (
	f2fsMagic     = 0xf2f52010
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
)

// localMagic lists the file systems whose pages come from a disk or from memory
// of this machine. overlayfs is not among them: its lower layers may be anything,
// a FUSE mount for instance. What is not listed is copied, which is always right.
var localMagic = map[uint32]bool{
	unix.EXT4_SUPER_MAGIC:     true, // ext2, ext3 and ext4
	unix.XFS_SUPER_MAGIC:      true,
	unix.BTRFS_SUPER_MAGIC:    true,
	f2fsMagic:                 true,
	zfsMagic:                  true,
	bcachefsMagic:             true,
	unix.TMPFS_MAGIC:          true, // also memfd
	unix.RAMFS_MAGIC:          true,
	unix.HUGETLBFS_MAGIC:      true,
	unix.EROFS_SUPER_MAGIC_V1: true,
	unix.SQUASHFS_MAGIC:       true,
	unix.ISOFS_SUPER_MAGIC:    true,
	unix.MSDOS_SUPER_MAGIC:    true,
	unix.EXFAT_SUPER_MAGIC:    true,
	unix.NILFS_SUPER_MAGIC:    true,
	unix.REISERFS_SUPER_MAGIC: true,
}

// IsLocal reports whether f lies on a file system whose pages come from a disk or
// from memory of this machine, as far as is known. It asks that file system and
// waits as long as it takes to answer.
func IsLocal(f *os.File) bool {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(int(f.Fd()), &st)
		if err == nil {
			return localMagic[uint32(st.Type)]
		}
		if err != unix.EINTR {
			return false
		}
	}
}
