package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"vrafs/vhostuser/vhostusertest"
)

const (
	opWrite  = 16
	opUnlink = 10
	opCreate = 35
)

// maxWriteArgs is the longest argument of a load that writes.
const maxWriteArgs = 40 + 1<<20

// sharedRows are the loads on a shared directory.
func sharedRows() []row {
	return []row{
		{"lookup", 32, 4096, newFinds, 0.8, nil, false},
		{"walk", 8, 32 << 10, newWalk, 0.8, nil, false},
		{"create-write-unlink", 1, 4 << 10, newChurn, 0.8, nil, false},
		{"read4k", 32, 4 << 10, random(4 << 10), 0.8, bareReads, true},
		{"read1m", 16, 1 << 20, sequential(1 << 20), 0.8, bareReads, false},
		{"write4k", 32, 4 << 10, writing(4 << 10), 0.8, bareWrites(4 << 10), false},
		{"write1m", 16, 4 << 10, writing(1 << 20), 0.8, bareWrites(1 << 20), false},
	}
}

// finds looks random files up by their names.
type finds struct {
	ignore
	t *tree
	r *rand.Rand
}

func newFinds(t *tree, seed uint64) feed { return &finds{t: t, r: rand.New(rand.NewPCG(seed, 0))} }

func (l *finds) next(q *vhostusertest.Request) {
	f := &l.t.files[l.r.IntN(len(l.t.files))]
	*q = vhostusertest.Request{Op: opLookup, Node: f.parent, Args: f.name, Room: 128}
}

// writes overwrites pieces of the big file.
type writes struct {
	t    *tree
	at   uint64
	size uint32
	args []byte
}

func writing(n uint32) func(*tree, uint64) feed {
	return func(t *tree, seed uint64) feed {
		return &writes{t: t, at: seed * 7, size: n, args: make([]byte, 40+n)}
	}
}

func (w *writes) next(q *vhostusertest.Request) {
	w.at++
	binary.LittleEndian.PutUint64(w.args[0:], w.t.bigFH)
	binary.LittleEndian.PutUint64(w.args[8:], w.at%(w.t.big.size/uint64(w.size))*uint64(w.size))
	binary.LittleEndian.PutUint32(w.args[16:], w.size)
	*q = vhostusertest.Request{Op: opWrite, Node: w.t.big.node, Args: w.args, Room: 8}
}

func (w *writes) note(r *vhostusertest.Reply) error {
	if n := binary.LittleEndian.Uint32(r.Body); n != w.size {
		return fmt.Errorf("write of %d bytes took %d", w.size, n)
	}
	return nil
}

// churn makes a file, writes 4 KiB, closes it, removes it and forgets it, at depth 1.
type churn struct {
	t        *tree
	run      uint64
	n, step  int
	node, fh uint64
}

// churns numbers the runs: one that ends between two requests leaves its file.
var churns atomic.Uint64

func newChurn(t *tree, _ uint64) feed { return &churn{t: t, run: churns.Add(1)} }

func (c *churn) next(q *vhostusertest.Request) {
	dir, le := c.t.dirs[c.n%dirs], binary.LittleEndian
	name := append([]byte("new-"+strconv.FormatUint(c.run, 10)+"-"+strconv.Itoa(c.n)), 0)
	switch c.step {
	case 0:
		in := make([]byte, 16)
		le.PutUint32(in, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL)
		le.PutUint32(in[4:], syscall.S_IFREG|0o644)
		*q = vhostusertest.Request{Op: opCreate, Node: dir, Args: append(in, name...), Room: 144}
	case 1:
		in := make([]byte, 40+4096)
		le.PutUint64(in, c.fh)
		le.PutUint32(in[16:], 4096)
		*q = vhostusertest.Request{Op: opWrite, Node: c.node, Args: in, Room: 8}
	case 2:
		in := make([]byte, 24)
		le.PutUint64(in, c.fh)
		*q = vhostusertest.Request{Op: opRelease, Node: c.node, Args: in}
	case 3:
		*q = vhostusertest.Request{Op: opUnlink, Node: dir, Args: name}
	case 4:
		*q = vhostusertest.Request{Op: opForget, Node: c.node, Args: []byte{1, 0, 0, 0, 0, 0, 0, 0}, NoReply: true}
		c.n++
	}
}

func (c *churn) note(r *vhostusertest.Reply) error {
	if r.Errno != 0 {
		return r.Errno
	}
	if c.step == 0 {
		c.node, c.fh = binary.LittleEndian.Uint64(r.Body), binary.LittleEndian.Uint64(r.Body[128:])
	}
	c.step = (c.step + 1) % 5
	return nil
}

const opForget = 2

// startShared runs our daemon over a directory.
func startShared(b *testing.B, dir string) *peer {
	b.Helper()
	sock := filepath.Join(b.TempDir(), "vrafsd.sock")
	return start(b, "vrafsd", sock, 1, daemonBinary(b), "virtiofs", "--sock", sock, "--shared-dir", dir,
		"--log-level", "error", "--request-queues", "1")
}

// newSharedSession is newSession for loads that write: the big file is open for that.
func newSharedSession(b *testing.B, p *peer) *session {
	b.Helper()
	s := &session{peer: p, clients: map[string][]*vhostusertest.Client{}}
	first, err := vhostusertest.NewClient(p.guest.Ring(1), vhostusertest.ClientConfig{Depth: 1})
	if err != nil {
		b.Fatal(err)
	}
	if s.tree, err = scan(first); err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	if s.tree.bigFH, _, err = first.Open(s.tree.big.node, syscall.O_RDWR, false); err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	for _, r := range sharedRows() {
		c, err := vhostusertest.NewClient(p.guest.Ring(1), vhostusertest.ClientConfig{Depth: r.depth, MaxRoom: r.room, MaxArgs: maxWriteArgs})
		if err != nil {
			b.Fatal(err)
		}
		s.clients[r.name] = append(s.clients[r.name], c)
	}
	return s
}

// BenchmarkShared measures every row on one shared directory, through both daemons in
// turn, each with one request queue.
func BenchmarkShared(b *testing.B) {
	dir := b.TempDir()
	makeTree(b, dir)
	theirs := newSharedSession(b, startVirtiofsd(b, dir))
	ours := newSharedSession(b, startShared(b, dir))
	for _, r := range sharedRows() {
		b.Run(r.name, func(b *testing.B) {
			c := &comparison{}
			for range rounds {
				c.add(ours.measure(b, &r, 1), theirs.measure(b, &r, 1))
				if r.bare != nil {
					c.floor = append(c.floor, r.bare(b, &r, filepath.Join(dir, bigFile)))
				}
			}
			c.report(b, "virtiofsd")
			b.ReportMetric(r.goal, "cpu-ratio-aim")
		})
	}
}
