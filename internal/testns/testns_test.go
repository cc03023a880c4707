package testns

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testenv"
)

var needed = []testenv.Feature{testenv.Root, testenv.Netns}

func TestMain(m *testing.M) { os.Exit(Main(m, Options{Needed: needed})) }

// pair makes two linked hosts.
func pair(t *testing.T, rate uint64) (a, b *Host) {
	t.Helper()
	testenv.Need(t, needed...)
	a, b = NewHost(t, "a"), NewHost(t, "b")
	(&Wire{A: a, B: b, AtA: "10.0.0.1/24", AtB: "10.0.0.2/24", Rate: rate}).Connect(t)
	return a, b
}

func TestHostsReachEachOtherAndNobodyElse(t *testing.T) {
	a, b := pair(t, 0)
	l, err := a.Listen("10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := b.Dial(t.Context(), "tcp", "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if c, err := net.Dial("tcp", "10.0.0.1:80"); err == nil {
		_ = c.Close()
		t.Error("a host is reached from where it isn't linked to")
	}
	cmd := exec.Command("ip", "-o", "link")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(cmd); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil || !strings.Contains(string(text), "b-a") {
		t.Errorf("a program on host b sees %q, %v", text, err)
	}
}

// TestRateHolds sends for about half a second: a link that lets more through than its
// rate would be done earlier, whatever else the machine does.
func TestRateHolds(t *testing.T) {
	const rate, size = 10 << 20, 5 << 20
	a, b := pair(t, rate)
	l, err := a.Listen("10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write(make([]byte, size))
	}()
	c, err := b.Dial(t.Context(), "tcp", "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begin := time.Now()
	n, err := io.Copy(io.Discard, c)
	if took := time.Since(begin); err != nil || n != size || took < 400*time.Millisecond {
		t.Errorf("%d bytes in %v, %v", n, took, err)
	}
}
