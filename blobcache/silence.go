package blobcache

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
)

// silence makes the files of a blob say nothing that lie where b's own map and
// sidecar should: they were replaced, or b could not open them, and would be
// believed after the eviction. Preconditions: the data file is leased, so no other
// process of ours has them open.
func (s *Store) silence(b *blobFile) error {
	if b.removed() { // what has its name now is about other data
		return nil
	}
	path := filepath.Join(s.opt.Dir, b.key.id)
	if b.side == nil || !named(s.o, path+sidecarSuffix, b.side.id) {
		if err := removeAll(s.o, s.opt.Dir, b.key.id, sidecarSuffix); err != nil {
			return err
		}
	}
	if b.cmap != nil && named(s.o, path+mapSuffix, b.cmap.id) {
		return nil
	}
	cmap, err := leaseFile(s.o, path+mapSuffix)
	if err != nil || cmap.f == nil {
		return err
	}
	defer cmap.close()
	return blankMap(cmap.f)
}

// named reports whether path is the name of the file id.
func named(o opener.Opener, path string, id fs.FileInfo) bool {
	f, err := o.Open(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	return err == nil && os.SameFile(fi, id)
}
