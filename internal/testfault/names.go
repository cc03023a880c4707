package testfault

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

// Names is a name server. It knows every name below ".test" as 127.0.0.1.
type Names struct {
	// IP is where it listens, on port 53: configurations of resolvers name no port.
	IP   string
	conf string // a resolv.conf that names it

	mu     sync.Mutex
	states map[string]NamesState
}

// A NamesState is what becomes of a question for a name.
type NamesState uint32

// What becomes of questions.
const (
	NamesUp      NamesState = iota
	NamesFail               // the server can't find out (SERVFAIL)
	NamesUnknown            // there is no such name (NXDOMAIN)
	NamesSilent             // there is no answer
)

// StartNames runs a name server until the test ends.
func StartNames(t testing.TB) *Names {
	t.Helper()
	testenv.Need(t, testenv.Root)
	n := &Names{conf: filepath.Join(t.TempDir(), "resolv.conf"), states: map[string]NamesState{}}
	var conn net.PacketConn
	for i := byte(1); conn == nil; i++ {
		// Other tests have theirs beside this one: each takes an address.
		n.IP = net.IPv4(127, 53, byte(os.Getpid()>>8), byte(os.Getpid())+i).String()
		var err error
		if conn, err = net.ListenPacket("udp", n.IP+":53"); err != nil && i == 200 {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	// A name that is not found is asked for once, and a silent server for a second.
	if err := os.WriteFile(n.conf, []byte("nameserver "+n.IP+"\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		n.serve(conn)
	}()
	return n
}

// Set changes what becomes of questions for a name.
func (n *Names) Set(name string, s NamesState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.states[name] = s
}

func (n *Names) state(name string) NamesState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.states[name]
}

// Resolve lets the test's own process ask the server, until the test ends. No other test
// may run beside it that looks up names.
func (n *Names) Resolve(t testing.TB) {
	t.Helper()
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", n.IP+":53")
	}}
}

// Command lets a program that is yet to be started, and what it starts, ask the server:
// it sees another /etc/resolv.conf, in a mount namespace of its own. What it mounts at
// dir, or below, is seen outside as well.
func (n *Names) Command(t testing.TB, cmd *exec.Cmd, dir string) {
	t.Helper()
	const script = `mount --make-private / && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`
	for _, args := range [][]string{{"--bind", dir, dir}, {"--make-shared", dir}} {
		if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", dir).Run() })
	unshare := exec.Command("unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-c", script, "sh", n.conf}, cmd.Args...)...)
	cmd.Path, cmd.Args = unshare.Path, unshare.Args
}

// Parts of a message (RFC 1035, section 4.1).
const (
	headerLen  = 12
	flagsReply = 0x8180 // an answer, recursion desired and available
	codeFail   = 2
	codeNoName = 3
	typeA      = 1
	answerA    = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01" // the question's name, for a second: 127.0.0.1
)

func (n *Names) serve(conn net.PacketConn) {
	var in [512]byte
	for {
		size, from, err := conn.ReadFrom(in[:])
		if err != nil {
			return
		}
		if out := n.answer(in[:size]); out != nil {
			_, _ = conn.WriteTo(out, from)
		}
	}
}

// answer is what to say to a question; nil for nothing.
func (n *Names) answer(in []byte) []byte {
	name, end := question(in)
	state := n.state(name)
	if end == 0 || state == NamesSilent {
		return nil
	}
	out := append([]byte(nil), in[:end]...) // header and question
	code, answers := uint16(0), uint16(0)
	switch {
	case state == NamesFail:
		code = codeFail
	case state == NamesUnknown || !strings.HasSuffix(name, ".test"):
		code = codeNoName
	case binary.BigEndian.Uint16(in[end-4:]) == typeA:
		out, answers = append(out, answerA...), 1
	}
	for i, v := range []uint16{flagsReply | code, 1, answers, 0, 0} {
		binary.BigEndian.PutUint16(out[2+2*i:], v)
	}
	return out
}

// question gives the name that a message asks for, and where the question ends; 0 if
// there is none.
func question(in []byte) (name string, end int) {
	labels := []string{}
	at := headerLen
	for at < len(in) && in[at] != 0 {
		next := at + 1 + int(in[at])
		if next > len(in) {
			return "", 0
		}
		labels = append(labels, string(in[at+1:next]))
		at = next
	}
	if end = at + 5; end > len(in) { // the name's end, type and class
		return "", 0
	}
	return strings.ToLower(strings.Join(labels, ".")), end
}
