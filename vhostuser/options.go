package vhostuser

import (
	"log/slog"
	"time"
)

// Options are the knobs of Serve. The zero value is usable.
type Options struct {
	// Log receives what went wrong, at most once a minute per kind. nil: nowhere.
	Log *slog.Logger
	// AnyMemory accepts memory regions of any file system. See
	// virtqueue.RegionSpec.AnyFile for what that risks.
	AnyMemory bool
	// NoPacked, NoReplyAck and Status change what is offered.
	NoPacked, NoReplyAck, Status bool
	// MaxQueueSize limits ring sizes; 0: 32768.
	MaxQueueSize int
	// StopGrace is how long a stopping ring waits for its requests before they
	// are aborted; 0: 500 ms.
	StopGrace time.Duration
	// AbortWait is how long it waits after that before it gives them up; 0: 5 s.
	AbortWait time.Duration
}
