// Package dragonfly finds the seed peer of a Dragonfly cluster that an address is read
// through.
//
//	Peer(scheduler, address) -- peers known? --> the same one for an address, everywhere
//	                                 ^
//	     once a minute, in the background; the first time it is waited for
//	                                 |
//	     scheduler: ListHosts --> seed peers --> each asked for its health
//
// A seed peer is an HTTP forward proxy. Which one of them is asked for an address is
// decided by the highest hash of both (rendezvous), so a peer that comes or goes moves
// its own addresses only.
//
// Trust: none in scheduler and peers beyond being asked. Answers are bounded, and what
// comes through a peer is checked as what comes from the origin.
//
// Concurrency: everything may be called from any goroutine. Close waits for what is
// under way.
//
// Source: nydusd 3.5; Dragonfly's API, version 2: scheduler.proto, common.proto; gRPC
// over HTTP/2.
package dragonfly

import (
	"context"
	"hash/fnv"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// refresh is the time between two questions to a scheduler; after a failure, retry.
	refresh, retry = time.Minute, 5 * time.Second
	// firstWait is how long the first reader waits for the peers.
	firstWait = 2 * time.Second
	// callTime bounds one question.
	callTime = 5 * time.Second
	// maxPeers bounds what a scheduler can have us keep and ask.
	maxPeers = 1024
	// maxSchedulers bounds what configurations can have us keep.
	maxSchedulers = 64
	// healthChecks are under way at once.
	healthChecks = 16
)

// A Cluster is the clusters of the schedulers it is asked about.
type Cluster struct {
	http   *http.Client
	failed func(error)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*known // by scheduler
	closed bool
}

// A known is what is known of one scheduler's cluster.
type known struct {
	first  chan struct{} // closed when the scheduler was asked once
	asking bool
	due    time.Time // to ask again
	peers  []string  // ip:port of their proxies
}

// New makes a cluster. failed, if not nil, hears of each question without an answer;
// its errors show no address.
func New(failed func(error)) *Cluster {
	c := &Cluster{http: &http.Client{Transport: transport()}, failed: failed, known: map[string]*known{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends what is under way. Nothing is found any more.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	c.http.CloseIdleConnections()
}

// Peer gives the proxy for an address, or nil while no peer is well. scheduler is the
// http or https address of the scheduler's gRPC service.
func (c *Cluster) Peer(scheduler string, u *url.URL) *url.URL {
	k := c.look(scheduler)
	if k == nil {
		return nil
	}
	limit := time.NewTimer(firstWait)
	defer limit.Stop()
	select {
	case <-k.first:
	case <-limit.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if peer := choose(k.peers, key(u)); peer != "" {
		return &url.URL{Scheme: "http", Host: peer}
	}
	return nil
}

// look returns what is known, and has a scheduler asked if that is due. It is nil after
// Close.
func (c *Cluster) look(scheduler string) *known {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	k := c.known[scheduler]
	if k == nil {
		if len(c.known) == maxSchedulers {
			clear(c.known) // those in use are asked anew
		}
		k = &known{first: make(chan struct{})}
		c.known[scheduler] = k
	}
	if !k.asking && !time.Now().Before(k.due) {
		k.asking = true
		c.wg.Go(func() { c.ask(scheduler, k) })
	}
	return k
}

// ask brings what is known up to date. A scheduler that doesn't answer leaves it as it
// is.
func (c *Cluster) ask(scheduler string, k *known) {
	peers, err := c.seeds(scheduler)
	c.mu.Lock()
	again := !isOpen(k.first)
	k.asking = false
	if err == nil {
		k.peers, k.due = peers, time.Now().Add(refresh)
	} else {
		k.due = time.Now().Add(retry)
	}
	if !again {
		close(k.first)
	}
	c.mu.Unlock()
	if err != nil && c.failed != nil && c.ctx.Err() == nil {
		c.failed(err)
	}
}

func isOpen(ch chan struct{}) bool {
	select {
	case <-ch:
		return false
	default:
		return true
	}
}

// seeds asks a scheduler for its seed peers, and those how they are.
func (c *Cluster) seeds(scheduler string) ([]string, error) {
	answer, err := c.call(scheduler, "/scheduler.v2.Scheduler/ListHosts", appendSeedRequest(nil))
	if err != nil {
		return nil, err
	}
	hosts, err := parseHosts(answer)
	if err != nil {
		return nil, err
	}
	well := make([]bool, len(hosts))
	slots := make(chan struct{}, healthChecks)
	var wg sync.WaitGroup
	for i, h := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			answer, err := c.call("http://"+join(h.ip, h.port), "/grpc.health.v1.Health/Check", nil)
			well[i] = err == nil && isServing(answer)
		})
	}
	wg.Wait()
	var peers []string
	for i, h := range hosts {
		if well[i] {
			peers = append(peers, join(h.ip, h.proxyPort))
		}
	}
	slices.Sort(peers)
	return slices.Compact(peers), nil
}

func join(ip string, port uint16) string { return net.JoinHostPort(ip, strconv.Itoa(int(port))) }

// key is what of an address names its content: signatures of storage are in the query.
func key(u *url.URL) string {
	if u == nil {
		return ""
	}
	return strings.ToLower(u.Host) + u.Path
}

// choose takes the peer with the highest hash for key, "" of none.
func choose(peers []string, key string) string {
	best, top := "", uint64(0)
	for _, p := range peers {
		h := fnv.New64a()
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(key))
		// The last byte alone would hardly reach the upper half of the hash.
		if n := mix(h.Sum64()); best == "" || n > top {
			best, top = p, n
		}
	}
	return best
}

// mix spreads every bit over the whole word (the finalizer of MurmurHash3).
func mix(n uint64) uint64 {
	n = (n ^ n>>33) * 0xff51afd7ed558ccd
	n = (n ^ n>>33) * 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}
