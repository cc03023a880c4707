package workload

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/internal/testns"
)

// A line passes TCP connections on, each way with the delay of a long cable, and counts
// what goes through.
type line struct {
	Address string // where it listens
	to      string
	delay   time.Duration // one way

	requests, bytes, connections atomic.Int64
}

// onTheWay bounds the bytes of a connection that are in the cable.
const onTheWay = 256 << 10

// sendBuffer is what a connection has in the queue of the link; the kernel doubles it.
const sendBuffer = 64 << 10

// newLine makes a line from an address of a host, nil for the tests' own network, to one
// of the tests' own network. It ends with the test.
func newLine(t testing.TB, host *testns.Host, at, to string, delay time.Duration) *line {
	t.Helper()
	listen := func(at string) (net.Listener, error) { return net.Listen("tcp", at) }
	if host != nil {
		listen = host.Listen
	}
	l, err := listen(at)
	if err != nil {
		t.Fatal(err)
	}
	ln := &line{Address: l.Addr().String(), to: to, delay: delay}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { ln.serve(ctx, c) })
		}
	})
	return ln
}

// A count is what went through a line.
type count struct{ requests, bytes, connections int64 }

func (ln *line) count() count {
	return count{ln.requests.Load(), ln.bytes.Load(), ln.connections.Load()}
}

func (c count) since(before count) count {
	return count{c.requests - before.requests, c.bytes - before.bytes, c.connections - before.connections}
}

// serve passes one connection on until one side closes it.
func (ln *line) serve(ctx context.Context, near net.Conn) {
	ln.connections.Add(1)
	far, err := net.Dial("tcp", ln.to)
	if err != nil {
		_ = near.Close()
		return
	}
	// Else a few connections fill the queue of the link, and others lose packets.
	_ = near.(*net.TCPConn).SetWriteBuffer(sendBuffer)
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { _ = near.Close(); _ = far.Close() })()
	defer cancel()
	// The handshake has gone to and fro before the first request comes.
	connected := time.Now().Add(2 * ln.delay)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		ln.pump(ctx, far, near, connected, ln.asked())
	})
	wg.Go(func() {
		defer cancel()
		ln.pump(ctx, near, far, connected, func(p []byte) { ln.bytes.Add(int64(len(p))) })
	})
	wg.Wait()
}

// asked counts requests, none of which has a body.
func (ln *line) asked() func(p []byte) {
	end, tail := []byte("\r\n\r\n"), []byte(nil)
	return func(p []byte) {
		tail = append(tail, p...)
		ln.requests.Add(int64(bytes.Count(tail, end)))
		if i := bytes.LastIndex(tail, end); i >= 0 {
			tail = tail[i+len(end):]
		}
	}
}

// A parcel is in the cable until it is due.
type parcel struct {
	p   []byte
	due time.Time
}

// pump moves what is read, each part after the delay.
func (ln *line) pump(ctx context.Context, to io.Writer, from io.Reader, connected time.Time, seen func([]byte)) {
	const part = 32 << 10
	cable := make(chan parcel, onTheWay/part)
	go func() {
		defer close(cable)
		for {
			p := make([]byte, part)
			n, err := from.Read(p)
			if n > 0 {
				due := time.Now()
				if due.Before(connected) {
					due = connected
				}
				select {
				case cable <- parcel{p[:n], due.Add(ln.delay)}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range cable {
		if wait := time.Until(c.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		seen(c.p)
		if _, err := to.Write(c.p); err != nil {
			return
		}
	}
}
