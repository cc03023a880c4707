package imagefs

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"vrafs/rafs"
)

// maxChecked bounds the inodes whose check is remembered: 16 MiB of bits. Those
// beyond are checked at each use.
const maxChecked = 1 << 27

// A validator compares v5 inodes with their digests, each once.
type validator struct {
	im      *rafs.Image
	checked []atomic.Uint64 // bit per i_ino
}

func newValidator(im *rafs.Image) (*validator, error) {
	if im.Version() != rafs.V5 {
		return nil, fmt.Errorf("%w: digest_validate of RAFS v%d, whose inodes have no digests", ErrUnsupported, im.Version())
	}
	n := min(im.InodeCount(), maxChecked)
	return &validator{im, make([]atomic.Uint64, n/64+1)}, nil
}

// inode checks n unless that was done; EIO if it is not what was built. A nil
// validator is content.
func (v *validator) inode(n *rafs.Inode) syscall.Errno {
	if v == nil {
		return 0
	}
	word, bit := uint64(n.Ino())/64, uint64(1)<<(n.Ino()%64)
	known := word < uint64(len(v.checked))
	if known && v.checked[word].Load()&bit != 0 {
		return 0
	}
	if err := v.im.VerifyInode(n.Ino()); err != nil {
		return syscall.EIO
	}
	if known {
		v.checked[word].Or(bit)
	}
	return 0
}
