package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/tlv"
)

// goldenPassed and goldenInvitation are what programs of other versions write and read.
const (
	goldenPassed = "5652414653574159" + "0100" + "0100" + // magic, version, least reader
		"0180" + "08000000" + "0200000000000000" + // kind
		"0200" + "01000000" + "78" + // text
		"0380" + "08000000" + "05000000" + "06000000" // numbers of descriptors
	goldenInvitation = "5652414653494e56" + "0100" + "0100" + "0100" + "08000000"
)

func samplePassed() *passed { return &passed{kind: passPart, text: "x", numbers: []int{5, 6}} }

func TestPassageKeepsItsForm(t *testing.T) {
	if got := hex.EncodeToString(samplePassed().encode()); got != goldenPassed {
		t.Errorf("got  %s\nwant %s", got, goldenPassed)
	}
	if got := hex.EncodeToString(invitation()); !strings.HasPrefix(got, goldenInvitation) || len(got) != len(goldenInvitation)+16 {
		t.Errorf("got  %s\nwant %s and a pid", got, goldenInvitation)
	}
	if pid, err := checkInvitation(invitation()); err != nil || pid != uint64(os.Getpid()) {
		t.Errorf("%d, %v", pid, err)
	}
	m, err := decodePassed(samplePassed().encode())
	if err != nil || !reflect.DeepEqual(m, samplePassed()) {
		t.Errorf("%+v, %v", m, err)
	}
	e := tlv.Start(passageMagic, passageVersion+1, passageReader)
	e.Uint(tagPassageKind, passTaken)
	e.Uint(9|tlv.Required, 0)
	if _, err := decodePassed(e.Finish()); !errors.Is(err, tlv.ErrNewer) {
		t.Errorf("of a newer version: %v", err)
	}
}

// FuzzPassed: what comes through a passage is read or refused.
func FuzzPassed(f *testing.F) {
	f.Add(samplePassed().encode())
	f.Add(invitation())
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = checkInvitation(text)
		m, err := decodePassed(text)
		if err != nil || len(m.text) > maxPassage/2 {
			return
		}
		again, err := decodePassed(m.encode())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v becomes %+v, %v", m, again, err)
		}
	})
}

// bothEnds is a passage within this process.
func bothEnds(t *testing.T) (former, next *passage) {
	t.Helper()
	next, fd, err := newPassage()
	if err != nil {
		t.Fatal(err)
	}
	if former, err = passageOf(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(former.close)
	t.Cleanup(next.close)
	return former, next
}

// TestManyDescriptorsPass, more than fit into one message, each with its number.
func TestManyDescriptorsPass(t *testing.T) {
	former, next := bothEnds(t)
	var fds []int
	for range 3*maxFDsAtOnce + 1 {
		fd, err := unix.MemfdCreate("passed", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte{byte(fd), byte(fd >> 8)}); err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	defer closeFDs(fds)
	f, err := memoryFile(&savedState{boot: "boot", tree: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sent := make(chan error, 1)
	go func() { sent <- former.sendAll(f, fds) }()
	s, l, err := next.receiveAll()
	defer l.close()
	if err != nil || s.boot != "boot" || len(l) != len(fds) {
		t.Fatalf("%+v, %d descriptors, %v", s, len(l), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	for _, n := range fds {
		fd, err := l.take(n)
		if err != nil {
			t.Fatal(err)
		}
		var b [2]byte
		if _, err := unix.Pread(fd, b[:], 0); err != nil || int(b[0])|int(b[1])<<8 != n&0xffff {
			t.Errorf("descriptor %d has %v, %v", n, b, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %#x, %v", n, flags, err)
		}
		_ = unix.Close(fd)
		if _, err := l.take(n); err == nil {
			t.Errorf("descriptor %d is given twice", n)
		}
	}
}

// TestForeignFormersAreRefused: who is asked for a guest and sends something else is no
// former, and nothing that it sent stays open.
func TestForeignFormersAreRefused(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	f, err := memoryFile(&savedState{boot: "boot", tree: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut, err := unix.MemfdCreate("cut", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(cut)
	if _, err := unix.Write(cut, []byte(stateMagic)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		want string
		send []passed
	}{
		"no number":        {"1 descriptors, 0 numbers", []passed{{kind: passPart, fds: []int{fd}}}},
		"no descriptor":    {"0 descriptors, 1 numbers", []passed{{kind: passPart, numbers: []int{3}}}},
		"nothing in it":    {"0 descriptors", []passed{{kind: passPart}}},
		"a refusal":        {"not today", []passed{{kind: passPart, fds: []int{fd}, numbers: []int{3}}, {kind: passRefused, text: "not today"}}},
		"another kind":     {"kind 99", []passed{{kind: 99, fds: []int{fd}}}},
		"no memory file":   {"not in a memory file", []passed{{kind: passState, fds: []int{fd}}}},
		"two states":       {"kind 3", []passed{{kind: passState, fds: []int{int(f.Fd()), fd}}}},
		"a state cut off":  {"malformed state", []passed{{kind: passState, fds: []int{cut}}}},
		"the end at once":  {"EOF", nil},
		"the end too soon": {"EOF", []passed{{kind: passPart, fds: []int{fd, fd}, numbers: []int{3, 3}}}},
	} {
		before := descriptors(t)
		func() {
			next, fd, err := newPassage()
			if err != nil {
				t.Fatal(err)
			}
			defer next.close()
			former, err := passageOf(fd)
			if err != nil {
				t.Fatal(err)
			}
			for i := range tt.send {
				if err := former.send(&tt.send[i]); err != nil {
					t.Fatal(err)
				}
			}
			former.close()
			_, l, err := next.receiveAll()
			l.close()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
		}()
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors, before %d", name, after, before)
		}
	}
}

// TestPassagesEndInTime: a peer that says nothing is not waited for longer than was agreed on.
func TestPassagesEndInTime(t *testing.T) {
	_, next := bothEnds(t)
	stop := next.within(t.Context(), 20*time.Millisecond)
	if err := next.expect(passYours); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after its time: %v", err)
	}
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer next.within(ctx, 0)()
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := next.expect(passYours); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the end: %v", err)
	}
}

// TestPassageOutlivesAnEnd: what ended, ended one talk. The last word of all has to arrive.
func TestPassageOutlivesAnEnd(t *testing.T) {
	former, next := bothEnds(t)
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		stop := next.within(ctx, time.Minute)
		cancel()
		stop()
		if err := next.send(&passed{kind: passBegun}); err != nil {
			t.Fatal(err)
		}
		if err := former.expect(passBegun); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefusalsDontWait for who doesn't read.
func TestRefusalsDontWait(t *testing.T) {
	former, _ := bothEnds(t)
	stop := former.within(t.Context(), 50*time.Millisecond)
	for former.send(&passed{kind: passPart}) == nil {
	}
	stop()
	begin := time.Now()
	former.refuse("no")
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("%v", d)
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
