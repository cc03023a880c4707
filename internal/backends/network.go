package backends

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/backend"
	"vrafs/backend/hedge"
	"vrafs/backend/limit"
	"vrafs/backend/pace"
	"vrafs/backend/stream"
	"vrafs/backend/window"
	"vrafs/internal/credhelper"
	"vrafs/internal/dragonfly"
	"vrafs/internal/health"
	"vrafs/internal/hosts"
)

// A Network is what the network back ends of a process share. Its fields are set once,
// before the first Open, and may be nil.
type Network struct {
	// Bytes bounds what is under way at once.
	Bytes *limit.Bytes
	// Pace bounds what comes in a second.
	Pace *pace.Pacer
	// Hosts says which servers are asked.
	Hosts *hosts.Table
	// Hedge asks a second time for what is late.
	Hedge *hedge.Hedger
	// Streams counts requests that passes over whole blobs make.
	Streams stream.Counters
	// Windows keeps what was read through a proxy for the sake of peers.
	Windows *window.Memory
	// Dragonfly finds the seed peers of clusters whose scheduler a configuration names.
	Dragonfly *dragonfly.Cluster

	// CredentialHelper is the Unix socket that is asked for the credentials of registries
	// whose configuration names no other; or empty.
	CredentialHelper string

	retries atomic.Uint64
	mu      sync.Mutex
	places  map[*watched]bool
	helpers map[string]*credhelper.Helper // by socket
}

// helper asks a socket, or that of the process, for credentials; nil if there is none.
// What a helper gave is good for all who ask it.
func (n *Network) helper(socket, host, repo string) func(context.Context, string) (string, time.Time, error) {
	if socket = cmp.Or(socket, n.CredentialHelper); socket == "" {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.helpers[socket]
	if h == nil {
		if n.helpers == nil {
			n.helpers = map[string]*credhelper.Helper{}
		}
		h = credhelper.New(socket)
		n.helpers[socket] = h
	}
	return func(ctx context.Context, refused string) (string, time.Time, error) {
		c, err := h.Get(ctx, host+"/"+repo, refused)
		return c.Auth, c.End, err
	}
}

// Retries is how many tries of requests were not the first.
func (n *Network) Retries() uint64 { return n.retries.Load() }

// A watched place is a proxy or a mirror in use.
type watched struct {
	Place
	health *health.Health
}

// A Place is a proxy or a mirror, as the back ends that use it see it.
type Place struct {
	Kind, Host string // Kind is proxy or mirror
	Sick       bool   // some pass by it
}

// watch lists a place until forget is called.
func (n *Network) watch(kind, host string, h *health.Health) (forget func()) {
	w := &watched{Place{Kind: kind, Host: host}, h}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.places == nil {
		n.places = map[*watched]bool{}
	}
	n.places[w] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.places, w)
	}
}

// Places are the proxies and mirrors in use, each once.
func (n *Network) Places() []Place {
	n.mu.Lock()
	defer n.mu.Unlock()
	sick := map[Place]bool{}
	for w := range n.places {
		sick[w.Place] = sick[w.Place] || w.health.Sick()
	}
	list := make([]Place, 0, len(sick))
	for p, s := range sick {
		p.Sick = s
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Place) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Host, b.Host)) })
	return list
}

// wrap puts around a back end what all of them need.
func (n *Network) wrap(blobs backend.Opener) backend.Opener {
	if n.Hedge != nil {
		blobs = n.Hedge.Wrap(blobs)
	}
	blobs = stream.New(blobs, stream.Options{Count: &n.Streams})
	if n.Bytes != nil {
		blobs = n.Bytes.Wrap(blobs)
	}
	if n.Pace != nil {
		blobs = n.Pace.Wrap(blobs) // who waits for it holds no share of the bytes
	}
	return blobs
}
