package vhostuser_test

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testleak"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// A script is what FuzzConn makes messages of:
//
//	byte 0: which message, an index into messageCases; above: the id itself
//	byte 1: bits 0-3 flags, bit 4 keep the good payload, bits 5-7 descriptors
//	byte 2: how many of the following bytes are laid over the payload
//	byte 3: where
type script struct{ b []byte }

// next takes n bytes; what is missing is zero.
func (s *script) next(n int) []byte {
	b := make([]byte, n)
	s.b = s.b[copy(b, s.b):]
	return b
}

// message makes the next message.
func (s *script) message(t testing.TB, g *vhostusertest.Guest, fds *[4]int) (b []byte, send []int) {
	h := s.next(4)
	req, payload := vhostuser.Request(h[0]), []byte(nil)
	if int(h[0]) < len(messageCases) {
		c := &messageCases[h[0]]
		req = c.req
		if h[1]&0x10 != 0 && c.payload != nil {
			payload = append(payload, c.payload(g)...)
		}
	}
	over := s.next(int(h[2]) % 64)
	if n := int(h[3])%64 + len(over); n > len(payload) && h[1]&0x10 == 0 {
		payload = append(payload, make([]byte, n-len(payload))...)
	}
	if at := int(h[3]) % 64; at < len(payload) {
		copy(payload[at:], over)
	}
	switch n := h[1] >> 5; n {
	case 0:
	case 5:
		send = []int{fds[0], fds[1]}
	case 6:
		send = fds[:]
	case 7:
		send = []int{g.Memory().FD}
	default:
		send = fds[n-1 : n]
	}
	return vhostusertest.Encode(req, uint32(h[1]&0xf), payload), send
}

// FuzzConn sends any messages to a back-end with a running guest and checks that
// the connection ends when the front-end leaves, and the next one works.
func FuzzConn(f *testing.F) {
	for i := range messageCases {
		f.Add([]byte{byte(i), 0x19, 0, 0})    // good, acknowledged
		f.Add([]byte{byte(i), 0x39, 0, 0})    // with an eventfd
		f.Add([]byte{byte(i), 0x59, 0, 0})    // with a memfd
		f.Add([]byte{byte(i), 0x11, 4, 0, 1}) // other ring
		f.Add([]byte{byte(i), 0x01, 8, 0, 255, 255, 255, 255, 255, 255, 255, 255, 13, 0x19, 0, 0})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1024 {
			return
		}
		fds := [4]int{eventFD(t)[0], memFD(t)[0], pipeFD(t)[0], eventFD(t)[0]}
		opened := testleak.Descriptors(t)
		g, err := vhostusertest.NewGuest(vhostusertest.GuestConfig{MemSize: 1 << 20, Slots: true})
		must(t, err)
		e := newEcho(2)
		e.open()
		o := vhostuser.Options{StopGrace: time.Millisecond, AbortWait: time.Millisecond, Status: true}
		s := serve(t, e, o)
		must(t, g.Start(s.Conn))
		c := newCaller(g, 1)
		_, err = c.send(opPark, 64)
		must(t, err)
		drained := make(chan struct{})
		go func() { // answers must not pile up
			defer close(drained)
			for {
				_, _, fd, err := s.ReceiveAny()
				if err != nil {
					return
				}
				_ = unix.Close(fd)
			}
		}()
		for in := (script{data}); len(in.b) > 0; {
			b, send := in.message(t, g, &fds)
			if s.Write(b, send...) != nil {
				break
			}
		}
		must(t, s.Socket().CloseWrite())
		select {
		case <-s.done:
		case <-time.After(20 * time.Second):
			t.Fatal("the back-end does not notice that the front-end left")
		}
		_ = s.Close()
		<-drained
		e.workers.Wait()
		g.Close()
		if n := testleak.Descriptors(t); n != opened {
			t.Errorf("%d descriptors open, %d before", n, opened)
		}
		g2 := newGuest(t, vhostusertest.GuestConfig{MemSize: 1 << 20})
		s2 := serve(t, e, o)
		must(t, g2.Start(s2.Conn))
		must(t, newCaller(g2, 1).echo(64))
	})
}

// TestScriptSpeaksEveryMessage keeps the fuzz target honest: its seeds reach
// what they are meant to reach.
func TestScriptSpeaksEveryMessage(t *testing.T) {
	g := newGuest(t, vhostusertest.GuestConfig{MemSize: 1 << 20})
	for i, c := range messageCases {
		in := script{[]byte{byte(i), 0x19, 0, 0}}
		b, _ := in.message(t, g, &[4]int{})
		if got := vhostuser.Request(binary.NativeEndian.Uint32(b)); got != c.req {
			t.Errorf("script %d speaks %v, want %v", i, got, c.req)
		}
		want, _ := c.body(t, g)
		if len(b) != vhostuser.HeaderSize+len(want) {
			t.Errorf("%v: %d bytes, want %d", c.req, len(b), vhostuser.HeaderSize+len(want))
		}
	}
}
