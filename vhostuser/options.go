package vhostuser

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/virtqueue"
)

// Options are the knobs of Serve. The zero value is usable.
type Options struct {
	// Log receives what went wrong, at most once a minute and kind. nil: nowhere.
	Log *slog.Logger
	// Stats counts; one Stats may serve many connections. nil: not counted.
	Stats *Stats
	// AnyMemory accepts memory regions on block devices too, see
	// virtqueue.RegionSpec.AnyFile.
	AnyMemory bool
	// NoPacked and NoReplyAck take something out of the offer, Status puts the
	// STATUS protocol feature in.
	NoPacked, NoReplyAck, Status bool
	// MaxQueueSize limits ring sizes; 0: 32768.
	MaxQueueSize int
	// MaxState limits what LoadState may be given, in bytes; 0: 256 MiB.
	MaxState int
	// StopGrace is how long a stopping ring waits for its requests before they
	// are aborted; 0: 500 ms.
	StopGrace time.Duration
	// AbortWait is how long it waits after that before it gives them up; 0: 5 s.
	AbortWait time.Duration
	// Handover lets the session be taken away for a successor. nil: it can't be.
	Handover *Handover
	// Descriptor gives Resume the descriptor that a state names, which is the session's
	// then. nil: it is a number in this process.
	Descriptor func(number int) (int, error)
	// Resumed is called when a session of a former life runs again. nil: nobody is.
	Resumed func()
}

func (o Options) withDefaults() Options {
	if o.Stats == nil {
		o.Stats = &Stats{}
	}
	if o.MaxQueueSize == 0 {
		o.MaxQueueSize = virtqueue.MaxSize
	}
	if o.MaxState == 0 {
		o.MaxState = 256 << 20
	}
	if o.StopGrace == 0 {
		o.StopGrace = 500 * time.Millisecond
	}
	if o.AbortWait == 0 {
		o.AbortWait = 5 * time.Second
	}
	return o
}

// Stats are counters over all connections they are given to.
type Stats struct {
	Messages       atomic.Uint64 // received whole
	ProtocolErrors atomic.Uint64 // connections ended by one
	Refused        atomic.Uint64 // messages that failed
	BrokenRings    atomic.Uint64 // stopped for what the driver put into them
	Faults         atomic.Uint64 // of those, for guest memory that was gone
	Lost           atomic.Uint64 // requests given up at a stop
	Kicks          atomic.Uint64
	Calls          atomic.Uint64
}

// A limiter logs each kind of line at most once a minute: peers cause them.
type limiter struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *limiter) warn(kind string, args ...any) {
	if l.log == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if t, ok := l.last[kind]; ok && now.Sub(t) < time.Minute {
		return
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	if len(l.last) < 256 { // kinds are few; this only makes sure
		l.last[kind] = now
	}
	l.log.Warn("vhost-user: "+kind, args...)
}
