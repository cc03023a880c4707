package rafs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Limits of a check.
const (
	defaultProblems = 100  // findings after which it stops
	maxDepth        = 8192 // of directories; path names can't be that deep
	checkEvery      = 1024 // entries between looks at the context
)

// CheckOptions choose what Check does.
type CheckOptions struct {
	SkipDigests bool // do not recompute v5 inode digests
	MaxProblems int  // stop after so many; 0 means 100

	// Lenient leaves out what no reader relies on and no image inherits: reserved
	// fields, and in v6 counts and sizes that are said twice. It is for images to
	// build on, whoever made them.
	Lenient bool
}

// A Problem is one finding of Check.
type Problem struct {
	Path string // raw bytes of the image: quote it before showing it
	Ino  Ino
	Err  error // usually a *FormatError
}

// A CheckReport says what Check has seen and what is wrong with it.
type CheckReport struct {
	Inodes  uint64 // distinct
	Names   uint64 // the root included
	Chunks  uint64 // references from files
	Xattrs  uint64
	Digests uint64 // v5 inode digests that were recomputed and match

	Dirs, Files, Symlinks, Devices, FIFOs, Sockets uint64

	// Problems come in the order of the walk, at most MaxProblems; the walk ended
	// early if there are as many.
	Problems []Problem
}

// Err gives nil if no problem was found, else an error that wraps the first.
func (r *CheckReport) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	p := r.Problems[0]
	return fmt.Errorf("%d problems, first at %q: %w", len(r.Problems), p.Path, p.Err)
}

// errStop ends a walk that has found enough.
var errStop = errors.New("too many problems")

// A checker walks the tree with a stack of its own, so that no image can exhaust
// the goroutine's. Its work is bounded: a directory and an inode are visited
// once, and all lists together can't be longer than the bootstrap that holds
// them.
type checker struct {
	im     *Image
	ctx    context.Context
	limit  int
	strict bool // v6: look at reserved fields and at what is said twice
	report CheckReport
	merkle *merkle  // nil: no digests
	seen   bitset   // v5: table indexes; v6: nids
	budget uint64   // bytes of lists that may still be read
	chunks []uint64 // entries of the chunk table: blob, index and place in the table
	linked []Ino    // v6: an element for each name of a file that has several links
	spans  []Span
	names  []byte
	path   []byte
	stack  []checkFrame
}

// A checkFrame is a directory on the way from the root to where the walk is.
type checkFrame struct {
	dir  Inode
	cur  DirCursor
	path int // length of the directory's own path
	last []byte
}

// A bitset has a bit per number below its size.
type bitset []uint64

func newBitset(n uint64) bitset { return make(bitset, n/64+1) }

// set marks i and reports whether it was marked before.
func (b bitset) set(i uint64) bool {
	was := b[i/64]>>(i%64)&1 != 0
	b[i/64] |= 1 << (i % 64)
	return was
}

// Check walks the whole image and looks for what single operations can't see:
// directories reached twice, ".." that leads elsewhere, names that are not
// sorted, twice there or no names at all, sizes that don't fit the chunks,
// references outside blobs, and (v5) digests that don't match. What it can't find
// in v6 is listed in docs/design/check.md. It takes memory for a bit per possible
// inode and 8 bytes per chunk and per further name of a file. The error is the context's, or the report's Err.
func (im *Image) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	c := &checker{im: im, ctx: ctx, limit: o.MaxProblems, strict: im.version == V6 && !o.Lenient, budget: im.Size()}
	if c.limit <= 0 {
		c.limit = defaultProblems
	}
	if im.version == V5 {
		c.seen = newBitset(im.names + 1)
		if !o.SkipDigests {
			c.merkle = im.newMerkle()
		}
	} else {
		c.seen = newBitset((im.Size()-im.meta)/V6SlotSize + 1)
	}
	err := c.run()
	if err != nil && err != errStop {
		return &c.report, err
	}
	return &c.report, c.report.Err()
}

func (c *checker) run() error {
	if err := c.tables(); err != nil {
		return err
	}
	root, err := c.im.Inode(c.im.root)
	if err != nil {
		return c.problem(c.im.root, err)
	}
	c.path = append(c.path, '/')
	c.report.Names++
	c.seen.set(uint64(c.im.root))
	if err := c.inode(&root); err != nil {
		return err
	}
	if err := c.push(&root); err != nil {
		return err
	}
	for n := 1; len(c.stack) > 0; n++ {
		if n%checkEvery == 1 {
			if err := c.ctx.Err(); err != nil {
				return context.Cause(c.ctx)
			}
		}
		if err := c.step(); err != nil {
			return err
		}
	}
	return c.totals()
}

// problem notes a finding at the current path.
func (c *checker) problem(ino Ino, err error) error {
	c.report.Problems = append(c.report.Problems, Problem{Path: string(c.path), Ino: ino, Err: err})
	if len(c.report.Problems) >= c.limit {
		return errStop
	}
	return nil
}

// spend takes bytes of a list from the budget.
func (c *checker) spend(n *Inode, size uint64, what string) error {
	if size > c.budget {
		return corrupt(n.off, "inode", "%s of inodes overlap: together they are larger than the bootstrap", what)
	}
	c.budget -= size
	return nil
}

// push enters a directory whose path is c.path.
func (c *checker) push(dir *Inode) error {
	if len(c.stack) >= maxDepth {
		return c.problem(dir.ino, corrupt(dir.off, "inode", "nested deeper than %d directories", maxDepth))
	}
	if err := c.directory(dir); err != nil {
		return c.problem(dir.ino, err)
	}
	cur, err := dir.Dir(cursorFirst)
	if err != nil {
		return c.problem(dir.ino, err)
	}
	c.stack = append(c.stack, checkFrame{dir: *dir, cur: cur, path: len(c.path)})
	return nil
}

// directory checks what concerns a directory as a whole.
func (c *checker) directory(dir *Inode) error {
	if c.im.version == V5 {
		return c.spend(dir, uint64(dir.count)*V5InodeEntrySize, "child lists")
	}
	if err := c.spend(dir, dir.size, "data"); err != nil {
		return err
	}
	if self, err := dir.lookupV6(nameDot); err != nil || self != dir.ino {
		return corrupt(dir.off, "dirent", "\".\" is %d: %v", self, err)
	}
	want := dir.ino
	if len(c.stack) > 0 {
		want = c.stack[len(c.stack)-1].dir.ino
	}
	if up, err := dir.parentV6(); err != nil || up != want {
		return corrupt(dir.off, "dirent", "\"..\" is %d, not %d: %v", up, want, err)
	}
	dots := 0
	for k := range ceilShift(dir.size, c.im.blockBits) {
		b, n, err := dir.dirBlock(k)
		if err != nil {
			return err
		}
		for i := range n {
			if name := direntName(b, i, n); isDots(name) {
				dots++
			}
			if err := c.dirent(dir, b[i*V6DirentSize:]); err != nil {
				return err
			}
		}
	}
	if dots != 2 {
		return corrupt(dir.off, "dirent", "%d entries \".\" and \"..\"", dots)
	}
	return nil
}

// step visits the next entry of the innermost directory, or leaves it.
func (c *checker) step() error {
	f := &c.stack[len(c.stack)-1]
	c.path = c.path[:f.path]
	var d Dirent
	ok, err := f.cur.Next(&d)
	if err != nil || !ok {
		ino := f.dir.ino
		c.stack = c.stack[:len(c.stack)-1]
		if err != nil {
			return c.problem(ino, err)
		}
		return nil
	}
	if f.path > 1 {
		c.path = append(c.path, '/')
	}
	c.path = append(c.path, d.Name...)
	c.report.Names++
	if err := c.name(f, &d); err != nil {
		if err := c.problem(d.Ino, err); err != nil {
			return err
		}
	}
	f.last = d.Name
	n, err := c.im.Inode(d.Ino)
	if err != nil {
		return c.problem(d.Ino, err)
	}
	return c.child(f, &d, &n)
}

// name checks an entry's name against the one before and against lookup.
func (c *checker) name(f *checkFrame, d *Dirent) error {
	if f.last != nil {
		switch bytes.Compare(f.last, d.Name) {
		case 0:
			return corrupt(f.dir.off, "dirent.name", "twice in its directory")
		case 1:
			return corrupt(f.dir.off, "dirent.name", "not sorted: stands after %q", f.last)
		}
	}
	if ino, err := f.dir.Lookup(d.Name); err != nil || ino != d.Ino {
		return corrupt(f.dir.off, "dirent.name", "lookup gives inode %d, not %d: %v", ino, d.Ino, err)
	}
	return nil
}

// child checks the inode behind an entry and enters directories.
func (c *checker) child(f *checkFrame, d *Dirent, n *Inode) error {
	if d.Type != DTUnknown && d.Type != modeDT(n.mode) {
		if err := c.problem(n.ino, corrupt(n.off, "dirent.file_type", "%d for mode %#o", d.Type, n.mode)); err != nil {
			return err
		}
	}
	key, link := uint64(n.ino), *n
	if c.im.version == V5 {
		key = uint64(f.dir.first) + d.Cursor - cursorFirst - 1
		var err error
		if link, err = c.recordOf(key, &f.dir, n); err != nil {
			return c.problem(n.ino, err)
		}
	}
	again := c.seen.set(key)
	if again && (n.IsDir() || c.im.version == V5) {
		return c.problem(n.ino, corrupt(n.off, "inode", "reached a second time: child ranges overlap or directories form a loop"))
	}
	if err := c.link(n, again); again || err != nil {
		return err
	}
	if err := c.inode(&link); err != nil {
		return err
	}
	if n.IsDir() {
		return c.push(n)
	}
	return nil
}

// recordOf reads the v5 record of a child, which for a further hard link is its
// own, and compares it with the inode it stands for.
func (c *checker) recordOf(index uint64, dir, n *Inode) (Inode, error) {
	r, off, err := c.im.recordV5(index)
	if err != nil {
		return Inode{}, err
	}
	if p := r.parent(); p != uint64(dir.ino) {
		return Inode{}, corrupt(off+V5InodeParentAt, "inode.parent", "%d, but a child of %d", p, dir.ino)
	}
	if index == uint64(n.ino) {
		return *n, nil
	}
	link, err := c.im.parseV5(r, off, index)
	if err == nil && (link.size != n.size || link.count != n.count || link.mode != n.mode) {
		err = corrupt(off, "inode", "hard link differs from inode %d in size, mode or chunks", n.ino)
	}
	return link, err
}
