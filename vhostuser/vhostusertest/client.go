package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"vrafs/fusesrv"
	"vrafs/virtqueue"
)

// Sizes of fuse_in_header and fuse_out_header.
const (
	inHeader  = 40
	outHeader = 16
)

// ClientConfig describes a Client. The zero value of a field takes the default.
type ClientConfig struct {
	Depth   int // requests in flight at most, default 32
	MaxArgs int // longest request after its header, default 4056 bytes
	MaxRoom int // longest reply after its header, default 1 MiB
	// Scatter lays reply pages out with gaps between them, as a guest's page cache
	// does. Without it they are neighbours.
	Scatter bool
}

// A Request is one FUSE request. The header's length and unique are filled in.
type Request struct {
	Op       uint32
	Node     uint64
	Args     []byte // what follows the header
	UID, GID uint32
	// Room is the reply's longest body; with NoReply there is no writable buffer.
	Room    int
	NoReply bool
	// InCuts and OutCuts are where the readable and the writable part are cut into
	// descriptors, in ascending order. nil cuts as Linux does: after the headers,
	// and the reply's body every 4096 bytes.
	InCuts, OutCuts []int
}

// A Reply is the answer to a Request.
type Reply struct {
	Unique uint64
	Errno  syscall.Errno
	// Body is what follows the header; good until the next Send.
	Body []byte
}

// A Client sends FUSE requests over a Ring and checks what every reply must
// obey: the used length is the header's length, the unique is the request's.
type Client struct {
	Ring *Ring

	cfg    ClientConfig
	slots  []slot
	free   []*slot
	byID   []*slot // by chain id
	unique uint64
	in     []virtqueue.Seg
	out    []virtqueue.Seg
	cuts   []int
}

// A slot is the guest memory of one request in flight.
type slot struct {
	inGPA, outGPA virtqueue.GPA
	in, out       []byte
	unique        uint64
	room          int
	noReply       bool
	body          []byte // private copy when scattered
}

// NewClient returns a client of a ring, with all its guest memory allocated.
func NewClient(r *Ring, cfg ClientConfig) (*Client, error) {
	if cfg.Depth == 0 {
		cfg.Depth = 32
	}
	if cfg.MaxArgs == 0 {
		cfg.MaxArgs = pageSize - inHeader
	}
	if cfg.MaxRoom == 0 {
		cfg.MaxRoom = 1 << 20
	}
	c := &Client{Ring: r, cfg: cfg, slots: make([]slot, cfg.Depth), byID: make([]*slot, r.g.cfg.QueueSize),
		unique: uint64(r.index)<<48 + 2}
	room := (cfg.MaxRoom + pageSize - 1) &^ (pageSize - 1)
	if cfg.Scatter {
		room *= 2
	}
	for i := range c.slots {
		s := &c.slots[i]
		var err error
		if s.inGPA, s.in, err = r.g.Alloc(inHeader + cfg.MaxArgs); err != nil {
			return nil, err
		}
		// The header's page comes first, so that the body starts at a page.
		if s.outGPA, s.out, err = r.g.Alloc(pageSize + room); err != nil {
			return nil, err
		}
		if cfg.Scatter {
			s.body = make([]byte, cfg.MaxRoom)
		}
		c.free = append(c.free, s)
	}
	return c, nil
}

// errFull is returned by Send when Depth requests are in flight or the ring has
// no room.
var errFull = errors.New("no room for another request")

// IsFull reports whether Send failed for want of room: a reply has to be taken
// first.
func IsFull(err error) bool { return errors.Is(err, errFull) }

// Send puts a request into the ring, for the back-end to see after Ring.Kick,
// and returns its unique. Do not mix it with Do while requests are in flight.
func (c *Client) Send(q *Request) (unique uint64, err error) {
	if len(q.Args) > c.cfg.MaxArgs || q.Room > c.cfg.MaxRoom {
		return 0, fmt.Errorf("request of %d bytes with room for %d", len(q.Args), q.Room)
	}
	if len(c.free) == 0 {
		return 0, errFull
	}
	s := c.free[len(c.free)-1]
	c.unique += 2 // Linux keeps bit 0 for interrupts
	s.unique, s.room, s.noReply = c.unique, q.Room, q.NoReply
	s.fill(q)
	c.layout(s, q)
	id, ok, err := c.Ring.Driver.Add(c.in, c.out)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, errFull
	}
	c.free = c.free[:len(c.free)-1]
	c.byID[id] = s
	return s.unique, nil
}

// fill writes the request into guest memory.
func (s *slot) fill(q *Request) {
	le := binary.LittleEndian
	b := s.in
	le.PutUint32(b[0:], uint32(inHeader+len(q.Args)))
	le.PutUint32(b[4:], q.Op)
	le.PutUint64(b[8:], s.unique)
	le.PutUint64(b[16:], q.Node)
	le.PutUint32(b[24:], q.UID)
	le.PutUint32(b[28:], q.GID)
	le.PutUint32(b[32:], 1) // pid
	le.PutUint32(b[36:], 0) // total_extlen, padding
	copy(b[inHeader:], q.Args)
	clear(s.out[pageSize-outHeader : pageSize])
}

// layout computes the request's descriptors into c.in and c.out.
func (c *Client) layout(s *slot, q *Request) {
	c.in, c.out = c.in[:0], c.out[:0]
	cuts := q.InCuts
	if cuts == nil {
		cuts = append(c.cuts[:0], inHeader)
	}
	c.in = cut(c.in, cuts, inHeader+len(q.Args), func(off int) virtqueue.GPA { return s.inGPA + virtqueue.GPA(off) })
	if q.NoReply {
		return
	}
	cuts = q.OutCuts
	if cuts == nil || c.cfg.Scatter {
		cuts = append(c.cuts[:0], q.OutCuts...)
		for off := outHeader; off < outHeader+q.Room; off += pageSize {
			cuts = append(cuts, off)
		}
		slices.Sort(cuts)
		c.cuts = cuts
	}
	c.out = cut(c.out, cuts, outHeader+q.Room, func(off int) virtqueue.GPA {
		return s.outGPA + virtqueue.GPA(c.outOffset(off))
	})
}

// outOffset is where byte off of a reply lies in its slot.
func (c *Client) outOffset(off int) int {
	switch {
	case off < outHeader:
		return pageSize - outHeader + off
	case c.cfg.Scatter:
		off -= outHeader
		return pageSize + off/pageSize*2*pageSize + off%pageSize
	}
	return pageSize + off - outHeader
}

// cut appends [0, n) as segments that end at the cuts. at gives the address of
// an offset; memory is contiguous between cuts.
func cut(dst []virtqueue.Seg, cuts []int, n int, at func(int) virtqueue.GPA) []virtqueue.Seg {
	from := 0
	for _, to := range cuts {
		if to > from && to < n {
			dst = append(dst, virtqueue.Seg{Addr: at(from), Len: uint32(to - from)})
			from = to
		}
	}
	return append(dst, virtqueue.Seg{Addr: at(from), Len: uint32(n - from)})
}

// Recv waits for the next reply and checks it. Replies come in any order.
func (c *Client) Recv() (r Reply, err error) {
	done, err := c.Ring.Wait()
	if err != nil {
		return r, err
	}
	s := c.byID[done.ID]
	c.byID[done.ID] = nil
	c.free = append(c.free, s)
	r.Unique = s.unique
	if s.noReply {
		if done.Written != 0 {
			err = fmt.Errorf("%w: %d bytes written to a request without reply", ErrBackEnd, done.Written)
		}
		return r, err
	}
	if err := c.check(s, done.Written, &r); err != nil {
		return r, err
	}
	return r, nil
}

// check decodes the reply in s, of which the ring says that it has written bytes.
func (c *Client) check(s *slot, written uint32, r *Reply) error {
	h := s.out[pageSize-outHeader : pageSize]
	size, errno := binary.LittleEndian.Uint32(h), int32(binary.LittleEndian.Uint32(h[4:]))
	unique := binary.LittleEndian.Uint64(h[8:])
	switch {
	case size != written:
		return fmt.Errorf("%w: used length %d, reply length %d", ErrBackEnd, written, size)
	case size < outHeader || size > uint32(outHeader+s.room):
		return fmt.Errorf("%w: reply of %d bytes in %d", ErrBackEnd, size, outHeader+s.room)
	case unique != s.unique:
		return fmt.Errorf("%w: unique %#x, wanted %#x", ErrBackEnd, unique, s.unique)
	case errno > 0 || errno <= -512 || errno != 0 && size != outHeader:
		return fmt.Errorf("%w: error %d in a reply of %d bytes", ErrBackEnd, errno, size)
	}
	r.Errno = syscall.Errno(-errno)
	n := int(size) - outHeader
	if !c.cfg.Scatter {
		r.Body = s.out[pageSize:][:n:n]
		return nil
	}
	for off := 0; off < n; off += pageSize {
		copy(s.body[off:n], s.out[c.outOffset(outHeader+off):][:pageSize])
	}
	r.Body = s.body[:n]
	return nil
}

// Do sends one request and waits for its reply. Nothing else may be in flight. A
// reply with an error is returned as that Errno.
func (c *Client) Do(q *Request) (Reply, error) {
	unique, err := c.Send(q)
	if err == nil {
		err = c.Ring.Kick()
	}
	if err != nil {
		return Reply{}, err
	}
	r, err := c.Recv()
	switch {
	case err != nil:
		return r, err
	case r.Unique != unique:
		return r, fmt.Errorf("Do with requests in flight: reply to %#x came first", r.Unique)
	case r.Errno != 0:
		return r, r.Errno
	}
	return r, nil
}

// Call is Do for those who know requests by their parts (fusesrvtest.Caller).
func (c *Client) Call(op fusesrv.Opcode, node uint64, args []byte, room int) ([]byte, error) {
	r, err := c.Do(&Request{Op: uint32(op), Node: node, Args: args, Room: room, NoReply: op == fusesrv.OpForget})
	return r.Body, err
}
