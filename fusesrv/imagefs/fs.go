package imagefs

import (
	"errors"
	"hash/crc32"
	"math"
	"os"
	"time"

	"vrafs/blobcache"
	"vrafs/fusesrv"
	"vrafs/rafs"
)

// forever is how long a guest may keep what it knows of an image, in seconds.
const forever = 1 << 32

// maxIno is the greatest inode number that fits into the local part of a node
// id: 40 bits.
const maxIno = 1<<40 - 1

// ErrUnsupported is the class of options that an image can't be served with.
var ErrUnsupported = errors.New("option not supported for this image")

// Options are the circumstances of an FS.
type Options struct {
	// Xattr serves extended attributes even if the image says that it has none.
	Xattr bool
	// Validate checks each v5 inode's digest before it is first used. An image
	// of version 6 has no such digests and is refused.
	Validate bool
	// Generation tells this image from others that may take its place, also after
	// a restart; 0: made up from the bootstrap.
	Generation uint32
	// MountTime is shown for the root, whose time images do not have; zero: now.
	MountTime time.Time
}

// An FS serves one image. Image and cache must stay open until every request has
// ended.
type FS struct {
	fusesrv.ReadOnly

	im    *rafs.Image
	cache *blobcache.Cache
	root  rafs.Ino
	gen   uint64
	xattr bool
	check *validator // nil: off
	trace *trace

	ownerless bool // the image has no owners: uid and gid are shown
	uid, gid  uint32
	mounted   time.Time
}

// New returns an FS. The bootstrap's bytes are only looked at for a generation.
func New(im *rafs.Image, bootstrap []byte, cache *blobcache.Cache, o Options) (*FS, error) {
	f := &FS{
		im: im, cache: cache, root: im.Root(), gen: uint64(o.Generation), trace: newTrace(im),
		xattr:     o.Xattr || im.Flags()&rafs.FlagHasXattr != 0,
		ownerless: im.Flags()&rafs.FlagExplicitUIDGID == 0,
		uid:       uint32(os.Getuid()), gid: uint32(os.Getgid()),
		mounted: o.MountTime,
	}
	if f.gen == 0 {
		f.gen = uint64(Generation(bootstrap))
	}
	if f.mounted.IsZero() {
		f.mounted = time.Now()
	}
	if o.Validate {
		var err error
		if f.check, err = newValidator(im); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Root returns the node id of the image's root.
func (f *FS) Root() uint64 { return uint64(f.root) }

// HasXattrs reports whether xattrs are served.
func (f *FS) HasXattrs() bool { return f.xattr }

// Generation makes up a number for a bootstrap, never 0: a checksum of its length,
// its first 64 KiB and 256 pages spread over it, so that it costs the same for
// any image. Bootstraps that differ get different numbers with all likelihood,
// since the tables at the front name the blobs by their digests.
func Generation(bootstrap []byte) uint32 {
	const front, page, samples = 64 << 10, 4096, 256
	table := crc32.MakeTable(crc32.Castagnoli)
	var size [8]byte
	for i := range size {
		size[i] = byte(uint64(len(bootstrap)) >> (8 * i))
	}
	sum := crc32.Update(0, table, size[:])
	sum = crc32.Update(sum, table, bootstrap[:min(front, len(bootstrap))])
	step := max(page, len(bootstrap)/samples)
	for off := front; off < len(bootstrap); off += step {
		sum = crc32.Update(sum, table, bootstrap[off:min(off+page, len(bootstrap))])
	}
	if sum == 0 {
		return math.MaxUint32
	}
	return sum
}
