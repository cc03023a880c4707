package testfault

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A Proxy stands before a server that speaks plain HTTP, and passes requests on until it
// is told otherwise. It leaves names and signatures in requests alone.
type Proxy struct {
	Host string // 127.0.0.1:port

	t      testing.TB
	target *url.URL
	client *http.Transport
	sendOn atomic.Bool
	link   atomic.Int64 // number of the redirects that the storage takes
	asked  atomic.Int64

	mu     sync.Mutex
	set    setting
	server *http.Server
	silent []io.Closer
}

// A setting is a fault that was set, with what it does.
type setting struct {
	fault  Fault // nil: none
	number int   // of settings before this one
	left   int   // requests that it strikes; below 0: all
	struck int64
}

// A Fault is what becomes of a request.
type Fault func(x *Exchange)

// An Exchange is a request that a Fault answers, or not.
type Exchange struct {
	W http.ResponseWriter
	R *http.Request
	p *Proxy
	n int // of the setting that the fault is of
}

// Miss says that the fault changes nothing of what this request is answered: it strikes
// another one instead.
func (x *Exchange) Miss() {
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	if s := &x.p.set; s.number == x.n {
		s.left++
		s.struck--
	}
}

// Start runs a proxy before the server at an address until the test ends.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Host: "127.0.0.1:0", t: t, target: u, client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		p.Down()
		p.client.CloseIdleConnections()
	})
	p.Up()
	return p
}

// Set has the next n requests struck by f, or all if n is below 0. A nil f ends what
// there is.
func (p *Proxy) Set(f Fault, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = setting{fault: f, number: p.set.number + 1, left: n}
}

// Asked is the number of requests that came.
func (p *Proxy) Asked() int64 { return p.asked.Load() }

// Struck is the number of requests that the fault struck that was set last.
func (p *Proxy) Struck() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set.struck
}

// Drop ends every connection.
func (p *Proxy) Drop() {
	p.t.Helper()
	p.Up()
}

// Down stops listening and ends every connection. Whoever connects is refused.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		_ = p.server.Close()
		p.server = nil
	}
	for _, c := range p.silent {
		_ = c.Close()
	}
	p.silent = nil
}

// Up listens again, at the same address.
func (p *Proxy) Up() {
	p.t.Helper()
	p.Down()
	l, err := net.Listen("tcp", p.Host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Host = l.Addr().String()
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: log.New(io.Discard, "", 0)}
	go func(s *http.Server) { _ = s.Serve(l) }(p.server)
}

// Silent is Down where whoever connects gets no answer, as behind a firewall.
func (p *Proxy) Silent() {
	p.t.Helper()
	p.Down()
	p.mu.Lock()
	defer p.mu.Unlock()
	// The kernel drops what doesn't fit into the queue of connections to accept. Others
	// may fill it before us.
	config := net.ListenConfig{}
	l, err := config.Listen(context.Background(), "tcp", p.Host)
	if err == nil {
		p.silent = append(p.silent, l)
		err = shorten(l.(*net.TCPListener))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	for range 2 {
		if fd, err := knock(p.Host); err == nil {
			p.silent = append(p.silent, fd)
		}
	}
}

// shorten lets one connection wait to be accepted, the least there is.
func shorten(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), 0) })
	return errors.Join(err, failed)
}

// A descriptor is a socket that is closed at the end.
type descriptor int

func (d descriptor) Close() error { return unix.Close(int(d)) }

// knock begins to connect, and doesn't wait for an answer.
func knock(host string) (descriptor, error) {
	addr, err := net.ResolveTCPAddr("tcp", host)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, err
	}
	return descriptor(fd), nil
}

// take gives the fault that strikes a request, or nil, and the number of its setting.
func (p *Proxy) take() (Fault, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.set
	if s.fault == nil || s.left == 0 {
		return nil, s.number
	}
	s.left--
	s.struck++
	return s.fault, s.number
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	f, n := p.take()
	if f == nil {
		f = (*Exchange).Pass
	}
	f(&Exchange{w, r, p, n})
}

// hops are the headers that concern one connection (RFC 9110, section 7.6.1).
var hops = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// Ask asks the server; nil if it gives no answer, or if the request was answered here.
func (x *Exchange) Ask() *http.Response {
	r := x.R
	if x.p.sendOn.Load() {
		if r = x.follow(); r == nil {
			return nil
		}
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = x.p.target.Scheme, x.p.target.Host, ""
	for _, h := range hops {
		out.Header.Del(h)
	}
	resp, err := x.p.client.RoundTrip(out)
	if err != nil {
		x.W.WriteHeader(http.StatusBadGateway)
		return nil
	}
	for name, values := range resp.Header {
		x.W.Header()[name] = values
	}
	for _, h := range hops {
		x.W.Header().Del(h)
	}
	return resp
}

// Pass answers as the server does.
func (x *Exchange) Pass() {
	resp := x.Ask()
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	x.W.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(x.W, resp.Body)
}
