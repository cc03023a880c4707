package fusesrvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"vrafs/fusesrv"
)

var le = binary.LittleEndian

// ErrServer is the class of what a server may not do.
var ErrServer = errors.New("server broke the protocol")

// A Caller sends one request and waits for the reply, whose body it returns. An
// errno of the server is a syscall.Errno.
type Caller interface {
	Call(op fusesrv.Opcode, node uint64, args []byte, room int) ([]byte, error)
}

// A Direct is a Caller that calls a server's methods.
type Direct struct {
	S *fusesrv.Server
	W *fusesrv.Worker
	R fusesrv.Request
	// InCuts and OutCuts say where to cut a request and the room for its reply
	// into buffers; nil: not at all.
	InCuts, OutCuts []int
	// Header is changed by Tweak before it is sent; nil: not.
	Tweak func(*fusesrv.InHeader)

	unique  uint64
	request []byte
	reply   []byte
	in, out [][]byte
}

// NewDirect returns a caller that goes when the test does.
func NewDirect(t testing.TB, s *fusesrv.Server) *Direct {
	d := &Direct{S: s, W: s.NewWorker()}
	t.Cleanup(d.W.Close)
	return d
}

// guard fills the room for a reply, and the byte behind it.
const guard = 0xa5

var guards = bytes.Repeat([]byte{guard}, 64<<10)

// Call implements Caller.
func (d *Direct) Call(op fusesrv.Opcode, node uint64, args []byte, room int) ([]byte, error) {
	d.unique += 2
	h := fusesrv.InHeader{Len: uint32(fusesrv.InHeaderSize + len(args)), Opcode: op, Unique: d.unique, NodeID: node, PID: 1}
	if d.Tweak != nil {
		d.Tweak(&h)
	}
	var err error
	if d.request, err = binary.Append(d.request[:0], le, &h); err != nil {
		return nil, err
	}
	d.request = append(d.request, args...)
	n, err := d.Send(d.request, fusesrv.OutHeaderSize+room)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, nil
	}
	if e := syscall.Errno(-int32(le.Uint32(d.reply[4:]))); e != 0 {
		return nil, e
	}
	return d.reply[fusesrv.OutHeaderSize:n], nil
}

// Send sends any bytes with room for a reply of room bytes, and returns the
// reply's length. A request that becomes pending is waited for.
func (d *Direct) Send(request []byte, room int) (int, error) {
	if cap(d.reply) < room+1 {
		d.reply = make([]byte, room+1)
	}
	d.reply = d.reply[:room+1]
	for b := d.reply; len(b) > 0; b = b[min(len(b), len(guards)):] {
		copy(b, guards)
	}
	d.in = cut(d.in[:0], request, d.InCuts)
	d.out = cut(d.out[:0], d.reply[:room], d.OutCuts)
	n, pending := d.S.Handle(d.W, &d.R, d.in, d.out)
	for pending {
		d.S.Wait(context.Background(), &d.R)
		n, pending = d.S.Finish(d.W, &d.R, d.in, d.out)
	}
	return n, d.check(request, n, room)
}

// Reply returns the bytes of the last reply.
func (d *Direct) Reply(n int) []byte { return d.reply[:n] }

// check is what every reply must obey.
func (d *Direct) check(request []byte, n, room int) error {
	rest := d.reply[min(n, room):]
	switch {
	case n > room:
		return fmt.Errorf("%w: reply of %d bytes in %d", ErrServer, n, room)
	case n != 0 && n < fusesrv.OutHeaderSize:
		return fmt.Errorf("%w: reply of %d bytes", ErrServer, n)
	case rest[len(rest)-1] != guard:
		return fmt.Errorf("%w: wrote behind the buffers", ErrServer)
	case n == 0:
		return nil
	}
	size, errno, unique := le.Uint32(d.reply), int32(le.Uint32(d.reply[4:])), le.Uint64(d.reply[8:])
	switch {
	case int(size) != n:
		return fmt.Errorf("%w: header says %d bytes, %d were written", ErrServer, size, n)
	case unique != le.Uint64(request[8:]):
		return fmt.Errorf("%w: unique %#x, want %#x", ErrServer, unique, le.Uint64(request[8:]))
	case errno > 0 || errno <= -512 || errno != 0 && n != fusesrv.OutHeaderSize:
		return fmt.Errorf("%w: error %d in a reply of %d bytes", ErrServer, errno, n)
	case errno != 0 && len(bytes.Trim(rest, "\xa5")) != 0:
		return fmt.Errorf("%w: wrote behind an error reply", ErrServer)
	}
	return nil
}

// cut appends b in pieces that end at the cuts, which need not be in order or in
// range.
func cut(dst [][]byte, b []byte, cuts []int) [][]byte {
	from := 0
	for _, to := range cuts {
		if to > from && to < len(b) {
			dst = append(dst, b[from:to:to])
			from = to
		}
	}
	return append(dst, b[from:len(b):len(b)])
}
