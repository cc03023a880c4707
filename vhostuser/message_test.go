package vhostuser_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

// A messageCase is a front-end message that is right in a session whose guest
// has memory and whose rings are not started.
type messageCase struct {
	req     vhostuser.Request
	payload func(*vhostusertest.Guest) []byte
	fds     func(testing.TB) []int
	replied bool   // has an answer of its own
	proto   uint64 // protocol feature it belongs to
}

func plain(b []byte) func(*vhostusertest.Guest) []byte {
	return func(*vhostusertest.Guest) []byte { return b }
}

func eventFD(t testing.TB) []int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	return owned(t, fd)
}

func memFD(t testing.TB) []int {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	must(t, err)
	must(t, unix.Ftruncate(fd, 1<<20))
	return owned(t, fd)
}

func pipeFD(t testing.TB) []int {
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	owned(t, p[0])
	return owned(t, p[1])
}

// owned closes fd when the test ends.
func owned(t testing.TB, fd int) []int {
	t.Cleanup(func() { _ = unix.Close(fd) })
	return []int{fd}
}

// spare is a region beside the guest's own.
var spare = virtqueue.RegionSpec{GPA: 0x8000_0000, UVA: 0x1000_0000, Size: 1 << 20}

// messageCases follows the specification's table (1.5).
var messageCases = []messageCase{
	{req: vhostuser.GetFeatures, replied: true},
	{req: vhostuser.SetFeatures, payload: plain(vhostusertest.U64(vhostuser.FeatureVersion1 | vhostuser.FeatureProtocolFeatures))},
	{req: vhostuser.SetOwner},
	{req: vhostuser.ResetOwner},
	{req: vhostuser.SetMemTable, payload: plain(vhostusertest.MemTable(spare)), fds: memFD},
	{req: vhostuser.SetLogBase, payload: plain(append(vhostusertest.U64(4096), vhostusertest.U64(0)...)), fds: memFD, replied: true, proto: vhostuser.ProtocolLogShmFD},
	{req: vhostuser.SetLogFD, fds: eventFD},
	{req: vhostuser.SetVringNum, payload: plain(vhostusertest.State(0, 64))},
	{req: vhostuser.SetVringAddr, payload: func(g *vhostusertest.Guest) []byte { return g.Ring(0).AddrBytes() }},
	{req: vhostuser.SetVringBase, payload: plain(vhostusertest.State(1, 7))},
	{req: vhostuser.GetVringBase, payload: plain(vhostusertest.State(0, 0)), replied: true},
	{req: vhostuser.SetVringKick, payload: plain(vhostusertest.U64(1)), fds: eventFD},
	{req: vhostuser.SetVringCall, payload: plain(vhostusertest.U64(1)), fds: eventFD},
	{req: vhostuser.SetVringErr, payload: plain(vhostusertest.U64(1)), fds: eventFD},
	{req: vhostuser.GetProtocolFeatures, replied: true},
	{req: vhostuser.SetProtocolFeatures, payload: plain(vhostusertest.U64(allProtocol))},
	{req: vhostuser.GetQueueNum, replied: true, proto: vhostuser.ProtocolMQ},
	{req: vhostuser.SetVringEnable, payload: plain(vhostusertest.State(0, 1))},
	{req: vhostuser.GetConfig, payload: plain(append(vhostusertest.State(0, 4), make([]byte, 8)...)), replied: true, proto: vhostuser.ProtocolConfig},
	{req: vhostuser.SetConfig, payload: plain(append(append(vhostusertest.State(0, 4), 1, 0, 0, 0), "echo"...)), proto: vhostuser.ProtocolConfig},
	{req: vhostuser.GetInflightFD, payload: plain(vhostusertest.InflightBytes(virtqueue.InflightSpec{NumQueues: 2, QueueSize: 64})), replied: true, proto: vhostuser.ProtocolInflightShmFD},
	{req: vhostuser.SetInflightFD, payload: plain(vhostusertest.InflightBytes(virtqueue.InflightSpec{MmapSize: 8192, NumQueues: 2, QueueSize: 64})), fds: memFD, proto: vhostuser.ProtocolInflightShmFD},
	{req: vhostuser.ResetDevice, proto: vhostuser.ProtocolResetDevice},
	{req: vhostuser.GetMaxMemSlots, replied: true, proto: vhostuser.ProtocolConfigureSlots},
	{req: vhostuser.AddMemReg, payload: plain(vhostusertest.MemReg(spare)), fds: memFD, proto: vhostuser.ProtocolConfigureSlots},
	{req: vhostuser.RemMemReg, payload: func(g *vhostusertest.Guest) []byte { return vhostusertest.MemReg(g.Memory().Spec) }, proto: vhostuser.ProtocolConfigureSlots},
	{req: vhostuser.SetStatus, payload: plain(vhostusertest.U64(8)), proto: vhostuser.ProtocolStatus},
	{req: vhostuser.GetStatus, replied: true, proto: vhostuser.ProtocolStatus},
	{req: vhostuser.SetDeviceStateFD, payload: plain(vhostusertest.State(0, 0)), fds: pipeFD, replied: true, proto: vhostuser.ProtocolDeviceState},
	{req: vhostuser.CheckDeviceState, replied: true, proto: vhostuser.ProtocolDeviceState},
}

// allProtocol is every protocol feature that the echo device has.
const allProtocol = vhostuser.ProtocolMQ | vhostuser.ProtocolLogShmFD | vhostuser.ProtocolReplyAck |
	vhostuser.ProtocolConfig | vhostuser.ProtocolInflightShmFD | vhostuser.ProtocolResetDevice |
	vhostuser.ProtocolConfigureSlots | vhostuser.ProtocolStatus | vhostuser.ProtocolDeviceState

// prepared is a session with these protocol features, a guest with memory, and
// no ring started.
func prepared(t testing.TB, proto uint64) (*served, *vhostusertest.Guest) {
	t.Helper()
	g := newGuest(t, vhostusertest.GuestConfig{QueueSize: 64, MemSize: 1 << 20})
	s := serve(t, newEcho(2), vhostuser.Options{Status: true})
	offer, err := s.AskU64(vhostuser.GetProtocolFeatures, nil)
	must(t, err)
	if offer != allProtocol {
		t.Fatalf("protocol features %#x offered, wanted %#x", offer, allProtocol)
	}
	must(t, s.Send(vhostuser.SetProtocolFeatures, vhostusertest.U64(proto), false))
	s.AckedProto = proto
	must(t, s.Send(vhostuser.SetFeatures, vhostusertest.U64(vhostuser.FeatureVersion1|vhostuser.FeatureProtocolFeatures), false))
	must(t, s.Send(vhostuser.SetMemTable, vhostusertest.MemTable(g.Memory().Spec), false, g.Memory().FD))
	return s, g
}

// An answer is what came back for a message.
type answer int

const (
	silence answer = iota // nothing, and the connection goes on
	ok                    // an answer of its own, or an acknowledgement of 0
	refusal               // an acknowledgement that is not 0
	hangup                // the connection ended, with or without an answer before
	refusalAndHangup
)

func (a answer) String() string {
	return [...]string{"silence", "ok", "refusal", "hang-up", "refusal and hang-up"}[a]
}

// exchange sends a message and finds out what comes of it. own says that the
// message has an answer of its own, so a first number does not tell a refusal.
func (s *served) exchange(t testing.TB, req vhostuser.Request, payload []byte, needReply, own bool, fds ...int) answer {
	t.Helper()
	if err := s.Send(req, payload, needReply, fds...); err != nil {
		return hangup
	}
	// What answers this is either the message or the probe behind it.
	probe := vhostuser.GetFeatures
	if req == probe {
		probe = vhostuser.GetProtocolFeatures
	}
	_ = s.Send(probe, nil, false) // fails if the back-end has hung up, as Receive will
	a := silence
	for {
		got, p, fd, err := s.ReceiveAny()
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		switch {
		case errors.Is(err, vhostusertest.ErrBackEnd) || err == nil && got == req && a != silence:
			t.Fatalf("%v: more than one answer: %v, %v", req, got, err)
		case err != nil && a == refusal:
			return refusalAndHangup
		case err != nil:
			return hangup
		case got == probe:
			return a
		}
		a = ok
		if !own && len(p) == 8 && p[0] != 0 {
			a = refusal
		}
	}
}

// body makes a case's payload and descriptors.
func (c *messageCase) body(t testing.TB, g *vhostusertest.Guest) (payload []byte, fds []int) {
	if c.payload != nil {
		payload = c.payload(g)
	}
	if c.fds != nil {
		fds = c.fds(t)
	}
	return payload, fds
}

func TestMessageIsAnsweredAsAgreed(t *testing.T) {
	for _, c := range messageCases {
		for _, v := range []struct {
			name      string
			needReply bool
			proto     uint64
			want      answer
		}{
			{"plain", false, allProtocol, silence},
			{"need_reply", true, allProtocol, ok},
			{"need_reply_without_feature_reply_ack", true, allProtocol &^ vhostuser.ProtocolReplyAck, silence},
		} {
			t.Run(c.req.String()+"/"+v.name, func(t *testing.T) {
				noLeaks(t)
				s, g := prepared(t, v.proto)
				payload, fds := c.body(t, g)
				want := v.want
				if c.replied || v.needReply && c.req == vhostuser.SetProtocolFeatures { // which agrees on REPLY_ACK
					want = ok
				}
				if got := s.exchange(t, c.req, payload, v.needReply, c.replied, fds...); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
				must(t, s.end(t))
			})
		}
	}
}

func TestMessageOfWrongSizeEndsTheConnection(t *testing.T) {
	for _, c := range messageCases {
		for _, delta := range []int{-1, 1} {
			for _, needReply := range []bool{false, true} {
				s, g := prepared(t, allProtocol)
				payload, fds := c.body(t, g)
				if delta > 0 {
					payload = append(payload, make([]byte, 4096-len(payload))...)
				} else if len(payload) == 0 || c.req == vhostuser.GetInflightFD || c.req == vhostuser.SetInflightFD {
					continue
				} else {
					payload = payload[:min(7, len(payload)-1)]
				}
				want := hangup
				if needReply {
					want = refusalAndHangup
				}
				if got := s.exchange(t, c.req, payload, needReply, false, fds...); got != want {
					t.Errorf("%v with %d bytes, need reply %v: got %v, want %v", c.req, len(payload), needReply, got, want)
				}
				if err := s.end(t); !errors.Is(err, vhostuser.ErrProtocol) {
					t.Errorf("%v: Serve returned %v", c.req, err)
				}
			}
		}
	}
}

func TestMessageWithWrongDescriptorsIsRefused(t *testing.T) {
	noLeaks(t)
	for _, c := range messageCases {
		for _, surplus := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/surplus=%v", c.req, surplus), func(t *testing.T) {
				s, g := prepared(t, allProtocol)
				payload, fds := c.body(t, g)
				switch {
				case c.req == vhostuser.RemMemReg && surplus: // one is tolerated
					fds = append(memFD(t), memFD(t)...)
				case surplus:
					fds = append(fds, eventFD(t)...)
				case len(fds) == 0 || c.req == vhostuser.SetLogFD:
					return
				default:
					fds = nil
				}
				want := refusal
				if c.replied {
					want = hangup // an answer of its own can't say no
				}
				got := s.exchange(t, c.req, payload, true, c.replied, fds...)
				if c.req == vhostuser.SetLogBase || c.req == vhostuser.SetDeviceStateFD {
					if got != hangup {
						t.Errorf("got %v", got)
					}
					return
				}
				if got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

func TestMessageWithoutItsFeatureIsRefused(t *testing.T) {
	noLeaks(t)
	for _, c := range messageCases {
		if c.proto == 0 {
			continue
		}
		s, g := prepared(t, allProtocol&^c.proto)
		payload, fds := c.body(t, g)
		if got := s.exchange(t, c.req, payload, true, false, fds...); got != refusal {
			t.Errorf("%v: got %v, want %v", c.req, got, refusal)
		}
	}
}

func TestUnknownMessages(t *testing.T) {
	noLeaks(t)
	s, _ := prepared(t, allProtocol)
	// What the specification has and a file system does not need, then what nobody has.
	ids := []vhostuser.Request{0, vhostuser.SendRARP, vhostuser.NetSetMTU, vhostuser.SetBackendReqFD, vhostuser.IOTLBMsg,
		vhostuser.SetVringEndian, vhostuser.CreateCryptoSession, vhostuser.CloseCryptoSession, vhostuser.PostcopyAdvise,
		vhostuser.PostcopyListen, vhostuser.PostcopyEnd, 33, vhostuser.VringKick, vhostuser.GetSharedObject,
		vhostuser.GetShmemConfig, 45, 1 << 31}
	for _, id := range ids {
		if got := s.exchange(t, id, make([]byte, 40), true, false, eventFD(t)...); got != refusal {
			t.Errorf("%v: got %v, want %v", id, got, refusal)
		}
		s2, want := s, silence
		switch id {
		case vhostuser.IOTLBMsg, vhostuser.CreateCryptoSession, vhostuser.PostcopyAdvise, vhostuser.PostcopyEnd,
			vhostuser.GetSharedObject, vhostuser.GetShmemConfig: // the sender waits
			s2, _ = prepared(t, allProtocol)
			want = hangup
		}
		if got := s2.exchange(t, id, nil, false, false); got != want {
			t.Errorf("%v: got %v, want %v", id, got, want)
		}
	}
	for range 100 {
		if s.Send(9999, nil, false) != nil {
			break
		}
	}
	if _, err := s.AskU64(vhostuser.GetFeatures, nil); err == nil {
		t.Error("a stream of unknown messages is listened to for ever")
	}
}

func TestMalformedHeaderEndsTheConnection(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"version_0", vhostusertest.Encode(vhostuser.GetFeatures, 0, nil)},
		{"version_2", vhostusertest.Encode(vhostuser.GetFeatures, 2, nil)},
		{"version_3", vhostusertest.Encode(vhostuser.GetFeatures, 3, nil)},
		{"reply_bit", vhostusertest.Encode(vhostuser.GetFeatures, 5, nil)},
		{"reserved_bit", vhostusertest.Encode(vhostuser.GetFeatures, 0x11, nil)},
		{"high_bit", vhostusertest.Encode(vhostuser.GetFeatures, 1<<31|1, nil)},
		{"huge_size", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
		{"size_above_the_limit", vhostusertest.Encode(vhostuser.GetFeatures, 1, make([]byte, 4097))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			s := serve(t, newEcho(2), vhostuser.Options{})
			must(t, s.Write(tt.b, eventFD(t)...))
			if _, _, err := s.Receive(vhostuser.GetFeatures); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v, want a hang-up", err)
			}
			if err := s.end(t); !errors.Is(err, vhostuser.ErrProtocol) {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
}

// TestDisconnectInMidMessage cuts every message at every byte and checks that
// nothing is left behind.
func TestDisconnectInMidMessage(t *testing.T) {
	noLeaks(t)
	for _, c := range messageCases {
		s, g := prepared(t, allProtocol)
		payload, fds := c.body(t, g)
		_ = s.end(t)
		b := vhostusertest.Encode(c.req, vhostuser.FlagVersion, payload)
		step := 1 + len(b)/16
		for n := 1; n < len(b); n += step {
			s, _ := prepared(t, allProtocol)
			must(t, s.Write(b[:n], fds...))
			if err := s.end(t); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v cut at %d of %d: Serve returned %v", c.req, n, len(b), err)
			}
		}
	}
}

func TestMessageInPiecesIsUnderstood(t *testing.T) {
	noLeaks(t)
	s, _ := prepared(t, allProtocol)
	b := vhostusertest.Encode(vhostuser.AddMemReg, vhostuser.FlagVersion|vhostuser.FlagNeedReply, vhostusertest.MemReg(spare))
	fds := memFD(t)
	for i := range b {
		must(t, s.Write(b[i:i+1], fds...))
		fds = nil
	}
	p, _, err := s.Receive(vhostuser.AddMemReg)
	if err != nil || len(p) != 8 || p[0] != 0 {
		t.Errorf("got % x, %v", p, err)
	}
}

func TestTooManyDescriptorsEndTheConnection(t *testing.T) {
	noLeaks(t)
	s, _ := prepared(t, allProtocol)
	var fds []int
	for range 33 {
		fds = append(fds, eventFD(t)...)
	}
	must(t, s.Send(vhostuser.GetFeatures, nil, false, fds...))
	if err := s.wait(); !errors.Is(err, vhostuser.ErrProtocol) {
		t.Errorf("Serve returned %v", err)
	}
}

// wait returns what Serve returned once the back-end has ended the connection.
func (s *served) wait() error {
	<-s.done
	return s.err
}
