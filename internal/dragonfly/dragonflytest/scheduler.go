// Package dragonflytest is a scheduler of a Dragonfly cluster, for tests.
//
//	Scheduler --ListHosts--> hosts that the test names
//	Peer      --Check--> serving, until the test says otherwise
//
// Trust: it belongs to the test. It speaks as much of gRPC over HTTP/2 as a client
// needs that asks one question at a time. Source: as package dragonfly.
package dragonflytest

import (
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
)

// A Scheduler is one with its hosts.
type Scheduler struct {
	URL   string
	Asked atomic.Int64 // how often it was asked

	hosts atomic.Pointer[[]byte]
}

// Start starts a scheduler without hosts. It ends with the test.
func Start(t testing.TB) *Scheduler {
	t.Helper()
	s := &Scheduler{}
	s.hosts.Store(new([]byte))
	s.URL = serve(t, map[string]func() []byte{"/scheduler.v2.Scheduler/ListHosts": func() []byte {
		s.Asked.Add(1)
		return *s.hosts.Load()
	}})
	return s
}

// Set replaces the hosts.
func (s *Scheduler) Set(hosts ...[]byte) {
	var all []byte
	for _, h := range hosts {
		all = text(all, 1, h)
	}
	s.hosts.Store(&all)
}

// Host is a host as a scheduler tells of it; types above 0 are seed peers. health is the
// address of its gRPC service, proxy of its proxy.
func Host(t testing.TB, kind uint64, health, proxy string) []byte {
	t.Helper()
	u, err := url.Parse(health)
	if err != nil {
		t.Fatal(err)
	}
	service, err := netip.ParseAddrPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	at, err := netip.ParseAddrPort(proxy)
	if err != nil {
		t.Fatal(err)
	}
	h := text(nil, 1, []byte("id of "+proxy))
	h = number(h, 2, kind)
	h = text(h, 3, []byte("a-host"))
	h = text(h, 4, []byte(at.Addr().String()))
	h = number(h, 5, uint64(service.Port()))
	h = text(h, 12, number(nil, 1, 64))
	return number(h, 19, uint64(at.Port()))
}

// A Peer is the gRPC service of a seed peer.
type Peer struct {
	URL  string
	Sick atomic.Bool
}

// StartPeer starts one that is well.
func StartPeer(t testing.TB) *Peer {
	t.Helper()
	p := &Peer{}
	p.URL = serve(t, map[string]func() []byte{"/grpc.health.v1.Health/Check": func() []byte {
		if p.Sick.Load() {
			return number(nil, 1, 2)
		}
		return number(nil, 1, 1)
	}})
	return p
}

// serve answers methods of gRPC.
func serve(t testing.TB, methods map[string]func() []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := methods[r.URL.Path]
		h := w.Header()
		h.Set("Content-Type", "application/grpc")
		if answer == nil || r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
			h.Set("Grpc-Status", "12")
			return
		}
		h.Set("Trailer", "Grpc-Status")
		p := answer()
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(p)))
		_, _ = w.Write(append(frame, p...))
		h.Set("Grpc-Status", "0")
	}))
	server.Listener = ln
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func number(p []byte, field, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(p, field<<3), n)
}

func text(p []byte, field uint64, s []byte) []byte {
	p = binary.AppendUvarint(binary.AppendUvarint(p, field<<3|2), uint64(len(s)))
	return append(p, s...)
}
