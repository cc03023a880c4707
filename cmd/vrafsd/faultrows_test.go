package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testfault"
	"vrafs/internal/testregistry"
	"vrafs/internal/teststore"
)

// A faultRow is one way in which a network misbehaves.
type faultRow struct {
	name  string
	fault testfault.Fault
	// begin and end are what is done beside the fault, or instead of one.
	begin, end func(m *spoiled)
	// event is what the event says of it, as a regular expression; empty for a fault that no
	// reader sees.
	event string
	// lasting faults are not cured by another try.
	lasting bool
	// partial faults let some of a request's bytes through, which may be all of a file.
	partial bool
	// slow faults are those that only time can tell.
	slow bool
	// evaded faults are passed by for a while after they have ended.
	evaded bool
	// store is the store if it is not the common one, setUp what its mount has beside that.
	store func(t *testing.T, im *randomImage) *teststore.Store
	setUp func(m *spoiled, s *teststore.Store) *teststore.Store
}

func faultRows() []faultRow {
	return append([]faultRow{
		{name: "latency", fault: testfault.Latency(20 * time.Millisecond)},
		{name: "stall", fault: testfault.Stall, event: "no whole answer in time", slow: true},
		{name: "stall in the answer", fault: testfault.StallBody, event: "no whole answer in time", slow: true, partial: true},
		{name: "slow loris", fault: testfault.SlowLoris(50 * time.Millisecond), event: "no whole answer in time", slow: true, partial: true},
		{name: "hang-up", fault: testfault.HangUp, event: "EOF"},
		{name: "reset", fault: testfault.Reset, event: "connection reset by peer"},
		{name: "reset in the answer", fault: testfault.ResetBody, event: "connection reset by peer", partial: true},
		{name: "truncation", fault: testfault.Truncate, event: "the answer was cut short", partial: true},
		{name: "wrong bytes", fault: testfault.WrongBytes, event: "digest mismatch"},
		{name: "wrong length", fault: testfault.WrongLength, event: "another range than was asked for"},
		{name: "wrong range", fault: testfault.WrongRange, event: "another range than was asked for"},
		{name: "no range", fault: testfault.NoRange, event: "does not serve ranges", lasting: true},
		{name: "endless answer", fault: testfault.Endless}, // no more than was asked for is taken
		{name: "endless headers", fault: testfault.EndlessHeaders, event: "headers exceeded"},
		{name: "no HTTP", fault: testfault.NoHTTP, event: "malformed HTTP"},
		{name: "401", fault: testfault.Status(401), event: "answered 401", lasting: true},
		{name: "403", fault: testfault.Status(403), event: "answered 403", lasting: true},
		{name: "404", fault: testfault.Status(404), event: "answered 404", lasting: true},
		{name: "416", fault: testfault.Status(416, "Content-Range: bytes */99999999"), event: "answered 416"},
		{name: "429", fault: testfault.Status(429, "Retry-After: 1"), event: "answered 429"},
		{name: "500", fault: testfault.Status(500), event: "500 Internal Server Error"},
		{name: "502", fault: testfault.Status(502), event: "502 Bad Gateway"},
		{name: "503", fault: testfault.Status(503), event: "503 Service Unavailable"},
		{name: "504", fault: testfault.Status(504), event: "504 Gateway Timeout"},
		{name: "redirects in a circle", fault: testfault.Status(302, "Location: /again"), event: "redirect", lasting: true},
		{name: "server down", event: "connection refused",
			begin: func(m *spoiled) { m.proxy.Down() }, end: func(m *spoiled) { m.proxy.Up() }},
		{name: "server silent", event: "i/o timeout|no whole answer in time", slow: true,
			begin: func(m *spoiled) { m.proxy.Silent() }, end: func(m *spoiled) { m.proxy.Up() }},
	}, concatRows(credentialRows(), nameRows(), proxyRows())...)
}

func concatRows(lists ...[]faultRow) (all []faultRow) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// guarded keeps blobs in a registry with a token server of the tests' own, which it stores
// in tokens.
func guarded(tokens **testregistry.Tokens) func(t *testing.T, im *randomImage) *teststore.Store {
	return func(t *testing.T, im *randomImage) *teststore.Store {
		*tokens = testregistry.StartTokens(t, testregistry.TokenSettings{})
		s := testregistry.Start(t, testregistry.Options{Tokens: *tokens})
		im.push(t, s)
		return teststore.Registry(s, repo)
	}
}

// credentialRows are what becomes of tokens and of redirects to storage.
func credentialRows() []faultRow {
	var expiring, failing *testregistry.Tokens
	down := func(down bool) func(*spoiled) {
		return func(*spoiled) { failing.Change(func(s *testregistry.TokenSettings) { s.Down = down }) }
	}
	return []faultRow{
		{name: "expired tokens", fault: testfault.Stale, event: "answered 401", store: guarded(&expiring)},
		{name: "expired redirects", fault: testfault.Expired, event: "answered 403",
			setUp: func(m *spoiled, s *teststore.Store) *teststore.Store { m.proxy.SendOn(); return s }},
		{name: "token server down", fault: testfault.Stale, lasting: true, event: "503 Service Unavailable",
			store: guarded(&failing), begin: down(true), end: down(false),
			setUp: func(m *spoiled, s *teststore.Store) *teststore.Store {
				m.host = strings.TrimSuffix(strings.TrimPrefix(failing.URL, "http://"), "/token")
				return s
			}},
	}
}

// nameRows are a registry whose name can't be found.
func nameRows() (rows []faultRow) {
	for name, state := range map[string]testfault.NamesState{"fail": testfault.NamesFail, "unknown": testfault.NamesUnknown, "silent": testfault.NamesSilent} {
		host := name + ".test"
		rows = append(rows, faultRow{
			name: "name server " + name, event: "lookup " + host,
			setUp: func(m *spoiled, s *teststore.Store) *teststore.Store {
				_, port, _ := net.SplitHostPort(m.proxy.Host)
				m.host = net.JoinHostPort(host, port)
				return s.With(map[string]any{"host": m.host})
			},
			begin: func(m *spoiled) { m.names.Set(host, state); m.proxy.Drop() },
			end:   func(m *spoiled) { m.names.Set(host, testfault.NamesUp) },
		})
	}
	return rows
}

// smallWindow makes every file be asked for by itself through a proxy, too.
const smallWindow = 16 << 10

// proxyRows are a forward proxy in trouble: what m.proxy is here.
func proxyRows() []faultRow {
	through := func(fallback bool) func(m *spoiled, s *teststore.Store) *teststore.Store {
		return func(m *spoiled, s *teststore.Store) *teststore.Store {
			m.host = m.origin
			return s.With(map[string]any{"host": m.origin, "proxy": map[string]any{"url": "http://" + m.proxy.Host, "fallback": fallback, "check_interval": 1, "window_size": smallWindow}})
		}
	}
	down, up := func(m *spoiled) { m.proxy.Down() }, func(m *spoiled) { m.proxy.Up() }
	return []faultRow{
		{name: "proxy dead", event: "connection refused", setUp: through(false), begin: down, end: up},
		{name: "proxy in trouble", fault: testfault.Status(502), event: "502 Bad Gateway", setUp: through(false)},
		{name: "proxy dead and a way past it", evaded: true, setUp: through(true), begin: down, end: up},
		{name: "proxy in trouble and a way past it", fault: testfault.Status(502), evaded: true, setUp: through(true)},
		{name: "proxy with wrong bytes and a way past it", fault: testfault.WrongBytes, evaded: true, setUp: through(true)},
	}
}
