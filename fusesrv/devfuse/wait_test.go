package devfuse

import (
	"context"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
)

// A halves is a file system whose reads have their first half at once, and the
// second after a wait.
type halves struct {
	fusesrv.ReadOnly
	goOn chan struct{}
}

const half = "half"

func (h *halves) Read(r *fusesrv.Request, _ *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	copy(w.Data(2 * len(half))[0], half)
	return r.Pend(h)
}

func (h *halves) Wait(context.Context) syscall.Errno {
	<-h.goOn
	return 0
}

func (h *halves) Finish(_ *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	copy(w.Data(2 * len(half))[0][len(half):], half)
	w.SetLen(2 * len(half))
	return 0
}

func (h *halves) Drop() {}

func (h *halves) Getattr(*fusesrv.Request, *fusesrv.GetattrIn, *fusesrv.AttrOut) syscall.Errno {
	return 0
}

// TestWaitingReplyKeepsItsFirstHalf while the thread that stored it answers others.
func TestWaitingReplyKeepsItsFirstHalf(t *testing.T) {
	testenv.Need(t, testenv.Root) // sets the size of a socket's buffer
	h := &halves{goOn: make(chan struct{})}
	s := fusesrv.NewServer(h, fusesrv.Options{})
	s.Restore(fusesrv.Settings{Major: fusesrv.Major, Minor: fusesrv.Minor, MaxPages: 256})
	l := &line{kernel: connect(t, s), reply: make([]byte, outBytes)}
	request := func(op fusesrv.Opcode, args any) []byte {
		b := fusesrvtest.Args(t, args)
		return append(fusesrvtest.Args(t, fusesrv.InHeader{Len: uint32(fusesrv.InHeaderSize + len(b)), Opcode: op, Unique: 2, NodeID: 1}), b...)
	}
	for range 3 {
		if _, err := unix.Write(l.kernel, request(fusesrv.OpRead, fusesrv.ReadIn{Size: 4096})); err != nil {
			t.Fatal(err)
		}
		l.ask(t, request(fusesrv.OpGetattr, fusesrv.GetattrIn{}), fusesrv.OutHeaderSize+104)
		h.goOn <- struct{}{}
		n, err := unix.Read(l.kernel, l.reply)
		if err != nil || string(l.reply[fusesrv.OutHeaderSize:max(n, fusesrv.OutHeaderSize)]) != half+half {
			t.Errorf("%q, %v, want %q", l.reply[:max(n, 0)], err, half+half)
		}
	}
}
