package dragonfly_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vrafs/internal/dragonfly"
	"vrafs/internal/dragonfly/dragonflytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cluster(t *testing.T) *dragonfly.Cluster {
	t.Helper()
	c := dragonfly.New(func(err error) { t.Logf("not answered: %v", err) })
	t.Cleanup(c.Close)
	return c
}

func address(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSeedPeersThatAreWellAreAsked, and no other host of the cluster.
func TestSeedPeersThatAreWellAreAsked(t *testing.T) {
	s, well, sick := dragonflytest.Start(t), dragonflytest.StartPeer(t), dragonflytest.StartPeer(t)
	sick.Sick.Store(true)
	s.Set(
		dragonflytest.Host(t, 0, well.URL, "127.0.0.1:1"), // no seed peer
		dragonflytest.Host(t, 1, sick.URL, "127.0.0.1:2"),
		dragonflytest.Host(t, 1, "http://127.0.0.1:9", "127.0.0.1:3"), // nobody there
		dragonflytest.Host(t, 1, well.URL, "127.0.0.1:4"),
		dragonflytest.Host(t, 3, well.URL, "127.0.0.1:5"),
		dragonflytest.Host(t, 1, well.URL, "127.0.0.1:0"), // no proxy
	)
	c := cluster(t)
	seen := map[string]bool{}
	for i := range 100 {
		u := address(t, fmt.Sprint("https://registry/v2/a/blobs/", i))
		p := c.Peer(s.URL, u)
		if p == nil || p.Scheme != "http" {
			t.Fatalf("got %v", p)
		}
		seen[p.Host] = true
		u.RawQuery = "signature=other"
		if again := c.Peer(s.URL, u); again.Host != p.Host {
			t.Errorf("%v: %s, then %s", u, p.Host, again.Host)
		}
	}
	if len(seen) != 2 || !seen["127.0.0.1:4"] || !seen["127.0.0.1:5"] {
		t.Errorf("got %v", seen)
	}
	if n := s.Asked.Load(); n != 1 {
		t.Errorf("the scheduler was asked %d times", n)
	}
}

// TestPeersThatGoMoveOnlyTheirAddresses: what others had stays with them.
func TestPeersThatGoMoveOnlyTheirAddresses(t *testing.T) {
	p := dragonflytest.StartPeer(t)
	var hosts [][]byte
	for i := range 5 {
		hosts = append(hosts, dragonflytest.Host(t, 1, p.URL, fmt.Sprint("127.0.0.1:", 1000+i)))
	}
	five, four := dragonflytest.Start(t), dragonflytest.Start(t)
	five.Set(hosts...)
	four.Set(hosts[:4]...)
	c := cluster(t)
	const addresses = 500
	of := func(scheduler string) (peers [addresses]string) {
		for i := range peers {
			peers[i] = c.Peer(scheduler, address(t, fmt.Sprint("https://r/v2/b/blobs/", i))).Host
		}
		return peers
	}
	before, after := of(five.URL), of(four.URL)
	count := map[string]int{}
	for i := range before {
		count[before[i]]++
		if before[i] != after[i] && before[i] != "127.0.0.1:1004" {
			t.Errorf("address %d moved from %s to %s", i, before[i], after[i])
		}
	}
	for peer, n := range count {
		if n < addresses/10 || n > addresses/10*3 {
			t.Errorf("%s has %d of %d addresses", peer, n, addresses)
		}
	}
}

// TestSchedulerMayBeAnotherAtAnyTime: what counts is the one that is asked for.
func TestSchedulerMayBeAnotherAtAnyTime(t *testing.T) {
	p := dragonflytest.StartPeer(t)
	a, b := dragonflytest.Start(t), dragonflytest.Start(t)
	a.Set(dragonflytest.Host(t, 1, p.URL, "127.0.0.1:10"))
	b.Set(dragonflytest.Host(t, 1, p.URL, "127.0.0.1:20"))
	c := cluster(t)
	u := address(t, "http://r/x")
	for _, want := range []struct{ scheduler, peer string }{{a.URL, ":10"}, {b.URL, ":20"}, {a.URL, ":10"}} {
		if got := c.Peer(want.scheduler, u); got == nil || !strings.HasSuffix(got.Host, want.peer) {
			t.Errorf("got %v, want %s", got, want.peer)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				_ = c.Peer([]string{a.URL, b.URL}[i%2], u)
			}
		})
	}
	wg.Wait()
}

// TestNoPeerWhereNobodyAnswers, at once where that is known; and the error shows no
// address.
func TestNoPeerWhereNobodyAnswers(t *testing.T) {
	empty := dragonflytest.Start(t)
	for name, scheduler := range map[string]string{
		"nobody there": "http://user:hunter2@127.0.0.1:9", "no address": "hunter2", "no peers": empty.URL,
		"another service": dragonflytest.StartPeer(t).URL,
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan error, 1)
			c := dragonfly.New(func(err error) { heard <- err })
			defer c.Close()
			if p := c.Peer(scheduler, address(t, "http://r/x")); p != nil {
				t.Errorf("got %v", p)
			}
			if scheduler == empty.URL {
				return
			}
			select {
			case err := <-heard:
				if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "dragonfly") {
					t.Errorf("got %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("no error")
			}
		})
	}
	c := dragonfly.New(nil)
	c.Close()
	if p := c.Peer(empty.URL, nil); p != nil {
		t.Errorf("after Close: %v", p)
	}
}
