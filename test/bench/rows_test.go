package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"

	"vrafs/vhostuser/vhostusertest"
)

// FUSE opcodes of the loads.
const (
	opLookup      = 1
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opRelease     = 18
	opReaddirplus = 44
)

// A file is one name of the tree as the daemon shows it.
type file struct {
	parent, node, size uint64
	name               []byte // with its NUL
}

// A tree is what the loads are made of: node ids of one session.
type tree struct {
	dirs  []uint64
	dirFH []uint64
	files []file
	big   file
	bigFH uint64
}

// A row is one kind of load.
type row struct {
	name  string
	depth int
	room  int
	feed  func(t *tree, seed uint64) feed
	goal  float64 // CPU ratio aimed at
	bare  floor   // compare with that, too; may be nil
	// random says that the reads do not follow each other.
	random bool
}

func rows() []row {
	return []row{
		{"lookup+getattr", 32, 4096, newStorm, 0.35, nil, false},
		{"getattr", 32, 4096, newGetattr, 0.5, nil, false},
		{"readdirplus", 8, 32 << 10, newWalk, 0.35, nil, false},
		{"open-read-close", 1, 20 << 10, newSmall, 0, nil, false},
		{"read4k-depth1", 1, 4 << 10, random(4 << 10), 0.5, nil, true},
		{"read4k", 32, 4 << 10, random(4 << 10), 0.5, bareReads, true},
		{"read128k", 32, 128 << 10, sequential(128 << 10), 0.8, bareReads, false},
		{"read1m", 16, 1 << 20, sequential(1 << 20), 0.8, bareReads, false},
	}
}

// scan starts the session and learns the tree, reading every byte once so that
// both daemons and the page cache are warm.
func scan(c *vhostusertest.Client) (*tree, error) {
	if _, err := c.Init(vhostusertest.Init{Major: 7, Minor: 38, MaxReadahead: 1 << 20, Flags: 0x73fffffb}); err != nil {
		return nil, err
	}
	t := &tree{}
	for d := range dirs {
		e, err := c.Lookup(1, fmt.Sprintf("d%02d", d))
		if err != nil {
			return nil, err
		}
		fh, err := open(c, e.Node, true)
		if err != nil {
			return nil, err
		}
		t.dirs, t.dirFH = append(t.dirs, e.Node), append(t.dirFH, fh)
		for f := range perDir {
			name := fmt.Sprintf("file-%03d.conf", f)
			e, err := c.Lookup(t.dirs[d], name)
			if err != nil {
				return nil, err
			}
			t.files = append(t.files, file{t.dirs[d], e.Node, e.Attr.Size, append([]byte(name), 0)})
			if err := readAll(c, e.Node, e.Attr.Size); err != nil {
				return nil, err
			}
		}
	}
	e, err := c.Lookup(1, bigFile)
	if err != nil {
		return nil, err
	}
	t.big = file{1, e.Node, e.Attr.Size, []byte(bigFile + "\x00")}
	if t.bigFH, err = open(c, e.Node, false); err != nil {
		return nil, err
	}
	return t, readAll(c, e.Node, e.Attr.Size)
}

// open opens a file or directory; a daemon that needs no opens gives handle 0.
func open(c *vhostusertest.Client, node uint64, dir bool) (uint64, error) {
	fh, _, err := c.Open(node, 0, dir)
	if err == syscall.ENOSYS {
		return 0, nil
	}
	return fh, err
}

func readAll(c *vhostusertest.Client, node, size uint64) error {
	fh, err := open(c, node, false)
	if err != nil {
		return err
	}
	for off := uint64(0); off < size; off += 1 << 20 {
		if _, err := c.Read(node, fh, off, 1<<20); err != nil {
			return fmt.Errorf("node %d at %d: %w", node, off, err)
		}
	}
	return c.Release(node, fh, false)
}

// ignore is a feed that needs nothing from replies.
type ignore struct{}

func (ignore) note(*vhostusertest.Reply) error { return nil }

// storm looks a random file up and asks for its attributes.
type storm struct {
	ignore
	t    *tree
	r    *rand.Rand
	last *file
	attr [16]byte
}

func newStorm(t *tree, seed uint64) feed { return &storm{t: t, r: rand.New(rand.NewPCG(seed, 0))} }

func (s *storm) next(q *vhostusertest.Request) {
	if f := s.last; f != nil {
		s.last = nil
		*q = vhostusertest.Request{Op: opGetattr, Node: f.node, Args: s.attr[:], Room: 104}
		return
	}
	f := &s.t.files[s.r.IntN(len(s.t.files))]
	s.last = f
	*q = vhostusertest.Request{Op: opLookup, Node: f.parent, Args: f.name, Room: 128}
}

// getattr asks for attributes only.
type getattr struct {
	ignore
	t    *tree
	r    *rand.Rand
	attr [16]byte
}

func newGetattr(t *tree, seed uint64) feed { return &getattr{t: t, r: rand.New(rand.NewPCG(seed, 0))} }

func (g *getattr) next(q *vhostusertest.Request) {
	*q = vhostusertest.Request{Op: opGetattr, Node: g.t.files[g.r.IntN(len(g.t.files))].node, Args: g.attr[:], Room: 104}
}

// walk reads whole directories with their entries' attributes.
type walk struct {
	ignore
	t    *tree
	dir  int
	args [40]byte
}

func newWalk(t *tree, seed uint64) feed { return &walk{t: t, dir: int(seed)} }

func (w *walk) next(q *vhostusertest.Request) {
	w.dir++
	d := w.dir % dirs
	readArgs(&w.args, w.t.dirFH[d], 0, 32<<10)
	*q = vhostusertest.Request{Op: opReaddirplus, Node: w.t.dirs[d], Args: w.args[:], Room: 32 << 10}
}

// small opens, reads and closes one small file after the other, at depth 1.
type small struct {
	t    *tree
	i    int
	step int
	fh   uint64
	args [40]byte
}

func newSmall(t *tree, seed uint64) feed { return &small{t: t, i: int(seed) * 997} }

func (s *small) next(q *vhostusertest.Request) {
	f := &s.t.files[s.i%len(s.t.files)]
	clear(s.args[:])
	switch s.step {
	case 0:
		*q = vhostusertest.Request{Op: opOpen, Node: f.node, Args: s.args[:8], Room: 16}
	case 1:
		readArgs(&s.args, s.fh, 0, uint32(f.size))
		*q = vhostusertest.Request{Op: opRead, Node: f.node, Args: s.args[:], Room: int(f.size)}
	case 2:
		binary.LittleEndian.PutUint64(s.args[:], s.fh)
		*q = vhostusertest.Request{Op: opRelease, Node: f.node, Args: s.args[:24]}
		s.i++
	}
}

func (s *small) note(r *vhostusertest.Reply) error {
	if s.step == 0 {
		s.fh = 0
		if r.Errno == 0 {
			s.fh = binary.LittleEndian.Uint64(r.Body)
		}
	}
	s.step = (s.step + 1) % 3
	return nil
}

func readArgs(b *[40]byte, fh, off uint64, n uint32) {
	binary.LittleEndian.PutUint64(b[0:], fh)
	binary.LittleEndian.PutUint64(b[8:], off)
	binary.LittleEndian.PutUint32(b[16:], n)
}

// reads reads pieces of the big file.
type reads struct {
	t    *tree
	r    *rand.Rand // nil: one after the other
	at   uint64
	size uint32
	args [40]byte
}

func random(n uint32) func(*tree, uint64) feed {
	return func(t *tree, seed uint64) feed { return &reads{t: t, r: rand.New(rand.NewPCG(seed, 1)), size: n} }
}

func sequential(n uint32) func(*tree, uint64) feed {
	return func(t *tree, seed uint64) feed { return &reads{t: t, at: seed * 7, size: n} }
}

func (d *reads) next(q *vhostusertest.Request) {
	pieces := d.t.big.size / uint64(d.size)
	d.at++
	if d.r != nil {
		d.at = d.r.Uint64N(pieces)
	}
	readArgs(&d.args, d.t.bigFH, d.at%pieces*uint64(d.size), d.size)
	*q = vhostusertest.Request{Op: opRead, Node: d.t.big.node, Args: d.args[:], Room: int(d.size)}
}

func (d *reads) note(r *vhostusertest.Reply) error {
	if len(r.Body) != int(d.size) {
		return fmt.Errorf("read of %d bytes gave %d", d.size, len(r.Body))
	}
	return nil
}
