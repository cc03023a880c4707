package rafs

import (
	"crypto/sha256"
	"hash"

	"github.com/zeebo/blake3"
)

// merkle recomputes the digests of v5 inodes (section 1.10):
//
//	file       H(chunk digests)     symlink  H(target)
//	directory  H(child digests)     others   H("")
type merkle struct {
	im     *Image
	h      hash.Hash
	budget uint64 // bytes that may still be hashed; lists that overlap run out of it
}

func (im *Image) newMerkle() *merkle {
	m := &merkle{im: im, budget: 2 * im.Size()}
	if im.Digester() == DigesterSHA256 {
		m.h = sha256.New()
	} else {
		m.h = blake3.New()
	}
	return m
}

// spend takes n bytes from the budget.
func (m *merkle) spend(n *Inode, bytes uint64) error {
	if bytes > m.budget {
		return corrupt(n.off, "inode.child_count", "lists of chunks or children overlap")
	}
	m.budget -= bytes
	return nil
}

// verify compares the stored digest of one inode with its direct inputs.
func (m *merkle) verify(n *Inode) error {
	m.h.Reset()
	var err error
	switch n.mode & ModeType {
	case ModeRegular:
		err = m.chunks(n)
	case ModeDir:
		err = m.children(n)
	case ModeSymlink:
		var target []byte
		if target, err = n.Symlink(); err == nil {
			m.h.Write(target)
		}
	}
	if err != nil {
		return err
	}
	var sum Digest
	m.h.Sum(sum[:0])
	if want := n.recV5().digest(); sum != want {
		return corrupt(n.off+V5InodeDigestAt, "inode.digest", "%v stored, %v computed", want, sum)
	}
	return nil
}

func (m *merkle) chunks(n *Inode) error {
	if err := m.spend(n, uint64(n.count)*ChunkInfoSize); err != nil {
		return err
	}
	for k := range uint64(n.count) {
		m.h.Write(m.im.data[n.ChunkRef(k)+ChunkInfoDigestAt:][:DigestSize])
	}
	return nil
}

func (m *merkle) children(n *Inode) error {
	if err := m.spend(n, uint64(n.count)*V5InodeEntrySize); err != nil {
		return err
	}
	for k := range uint64(n.count) {
		r, _, err := m.im.recordV5(uint64(n.first) + k)
		if err != nil {
			return err
		}
		m.h.Write(r[V5InodeDigestAt:][:DigestSize])
	}
	return nil
}

// VerifyInode recomputes the digest of a v5 inode from its direct inputs; for a
// directory those of the children that are files or symlinks as well, while
// child directories count by their stored digest (section 1.10). v6 has no such
// digests: ErrUnsupported.
func (im *Image) VerifyInode(ino Ino) error {
	if im.version != V5 {
		return ErrUnsupported
	}
	n, err := im.Inode(ino)
	if err != nil {
		return err
	}
	m := im.newMerkle()
	if err := m.verify(&n); err != nil || !n.IsDir() {
		return err
	}
	for k := range uint64(n.count) {
		index := uint64(n.first) + k
		r, off, err := im.recordV5(index)
		if err != nil {
			return err
		}
		if t := r.mode() & ModeType; t != ModeRegular && t != ModeSymlink {
			continue
		}
		child, err := im.parseV5(r, off, index)
		if err != nil {
			return err
		}
		if err := m.verify(&child); err != nil {
			return err
		}
	}
	return nil
}
