package devfuse

import (
	"bytes"
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// A line is a served descriptor and the end where the kernel would be. Between
// them is a socket that keeps messages apart, as /dev/fuse does.
type line struct {
	kernel   int
	requests []fusesrvtest.HotRequest
	reply    []byte
}

func newLine(t testing.TB) *line {
	t.Helper()
	testenv.Need(t, testenv.Root) // makes the tree
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4})
	s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{})
	requests := s.HotRequests(t, s.Start(t))
	return &line{kernel: connect(t, s.Server), requests: requests, reply: make([]byte, outBytes)}
}

// connect has a server serve one end of a socket, and returns the other.
func connect(t testing.TB, s *fusesrv.Server) (kernel int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{fd: pair[1]}
	if err := unix.SetNonblock(c.fd, true); err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4*outBytes); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, s, ServeOptions{Threads: 1, Workers: 1}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_, _ = unix.Close(pair[0]), c.Close()
	})
	return pair[0]
}

// ask sends a request, as one piece, and waits for its reply of want bytes, 0 being
// none.
func (l *line) ask(t testing.TB, request []byte, want int) {
	if _, err := unix.Write(l.kernel, request); err != nil {
		t.Fatal(err)
	}
	if want == 0 {
		return
	}
	n, err := unix.Read(l.kernel, l.reply)
	for err == unix.EINTR {
		n, err = unix.Read(l.kernel, l.reply)
	}
	if err != nil || n != want {
		t.Fatalf("reply of %d bytes, %v, want %d", n, err, want)
	}
}

// TestLoopAllocatesNothing counts every allocation of the process, on both ends.
func TestLoopAllocatesNothing(t *testing.T) {
	l := newLine(t)
	for _, q := range l.requests {
		t.Run(q.Name, func(t *testing.T) {
			request := bytes.Join(q.In, nil)
			l.ask(t, request, q.Want)
			if n := testing.AllocsPerRun(200, func() { l.ask(t, request, q.Want) }); n != 0 {
				t.Errorf("got %v allocations per request, want 0", n)
			}
		})
	}
}

// BenchmarkLoop is a request's way from a read to its reply, without the kernel's
// part of FUSE.
func BenchmarkLoop(b *testing.B) {
	l := newLine(b)
	for _, q := range l.requests {
		b.Run(q.Name, func(b *testing.B) {
			b.ReportAllocs()
			request := bytes.Join(q.In, nil)
			for b.Loop() {
				l.ask(b, request, q.Want)
			}
		})
	}
}
