package vhostuser_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// giveUp is a successor that has everything and doesn't go on.
func giveUp(state []byte) error {
	r, err := vhostuser.Resume(state, newEcho(2), vhostuser.Options{Descriptor: func(n int) (int, error) {
		return unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
	}})
	if err == nil {
		r.Close()
	}
	return err
}

// TestSuspendedSessionGoesOn: a session that was suspended and resumed again and again
// under load loses no request and doubles none, in every kind of ring. Who might have gone on
// instead leaves no trace.
func TestSuspendedSessionGoesOn(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		noLeaks(t)
		h, err := vhostuser.NewHandover()
		must(t, err)
		t.Cleanup(h.Close)
		s, _, _, c := started(t, cfg, vhostuser.Options{Handover: h})
		stop := make(chan struct{})
		suspended := make(chan error, 1)
		go func() {
			var err error
			for i := 0; err == nil; i++ {
				select {
				case <-stop:
					suspended <- nil
					return
				default:
				}
				h.DropPages(func() bool { return false })
				var sus *vhostuser.Suspended
				if sus, err = h.Suspend(t.Context()); err == nil {
					err = errors.Join(vhostuser.CheckState(sus.State, 2), giveUp(sus.State))
					sus.Resume()
				}
			}
			suspended <- err
		}()
		must(t, c.stream(testenv.Rounds(20_000), 16, 64, always(opEcho)))
		close(stop)
		must(t, <-suspended)
		must(t, s.end(t))
	})
}

// TestSuspensionThatNobodyAnswersEnds with its context, and does no harm later.
func TestSuspensionThatNobodyAnswersEnds(t *testing.T) {
	noLeaks(t)
	h, err := vhostuser.NewHandover()
	must(t, err)
	t.Cleanup(h.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Suspend(ctx); !errors.Is(err, vhostuser.ErrHandover) {
		t.Errorf("without a session: %v", err)
	}
	s, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{Handover: h})
	must(t, c.stream(100, 4, 64, always(opEcho)))
	must(t, s.end(t))
}

// TestStatesThatCantBeContinued are refused, and nothing happens to descriptors that
// they don't name.
func TestStatesThatCantBeContinued(t *testing.T) {
	good := vhostuser.EmptyState(2)
	must(t, vhostuser.CheckState(good, 2))
	if err := vhostuser.CheckState(good, 5); !errors.Is(err, vhostuser.ErrHandover) {
		t.Errorf("another number of queues: %v", err)
	}
	for _, state := range [][]byte{nil, good[:len(good)-1], []byte("of another program")} {
		if err := vhostuser.CheckState(state, 2); err == nil {
			t.Errorf("%q is accepted", state)
		}
		if _, err := vhostuser.Resume(state, newEcho(2), vhostuser.Options{}); err == nil {
			t.Errorf("%q is continued", state)
		}
	}
}

// TestDescriptorsThatDontComeAreRefused: whichever is missing, those that came are closed.
func TestDescriptorsThatDontComeAreRefused(t *testing.T) {
	noLeaks(t)
	h, err := vhostuser.NewHandover()
	must(t, err)
	t.Cleanup(h.Close)
	s, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{Handover: h})
	sus, err := h.Suspend(t.Context())
	must(t, err)
	lost := errors.New("lost on the way")
	for missing := range sus.FDs {
		n := 0
		_, err := vhostuser.Resume(sus.State, newEcho(2), vhostuser.Options{Descriptor: func(fd int) (int, error) {
			if n++; n > missing {
				return -1, lost
			}
			return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		}})
		if !errors.Is(err, lost) {
			t.Errorf("without descriptor %d: %v", missing, err)
		}
	}
	sus.Resume()
	must(t, c.stream(100, 4, 64, always(opEcho)))
	must(t, s.end(t))
}

// FuzzSessionState: no state makes the check panic or take memory out of proportion.
func FuzzSessionState(f *testing.F) {
	for _, queues := range []int{0, 1, 2, 5} {
		state := vhostuser.EmptyState(queues)
		f.Add(state)
		f.Add(state[:len(state)/2])
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		_ = vhostuser.CheckState(state, 2)
	})
}
