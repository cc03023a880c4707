package api

import (
	"context"
	"time"
)

// A Daemon is what the API controls. All methods may be called concurrently. An
// error that is an *Error chooses status and rendering, any other is a 500. No
// value and no error may hold a secret.
type Daemon interface {
	Life
	Mounts
	Stats
	Overrides
	Prefetches
	Blobs
}

// An Action is a life-cycle command.
type Action uint8

// The life-cycle commands.
const (
	Start    Action = iota // READY to RUNNING
	Exit                   // stop without unmounting, then end the process
	SendFD                 // hand the session to the supervisor
	Takeover               // INIT to READY with what the supervisor holds
	Replace                // become the program that is at our path now
)

// A Deferred is returned by Do for a command that was accepted and is carried out once
// its client knows.
type Deferred struct{ Run func() }

func (*Deferred) Error() string { return "accepted" }

// Life is a daemon's state and the commands that change it.
type Life interface {
	// Info describes the daemon; its backend collection may be nil.
	Info() Info
	// Do carries out a command and returns when it is done, or accepted for Exit. A
	// *Deferred is a success.
	Do(ctx context.Context, a Action) error
	// SetLogLevel takes one of off, error, warn, info, debug, trace.
	SetLogLevel(level string) error
	// Events lists recent errors.
	Events() Events
}

// Mounts is the tree of mounted file systems; a mountpoint is an absolute virtual
// path as the client sent it, decoded.
type Mounts interface {
	// Mount returns when the tree can be seen, or leaves nothing behind.
	Mount(ctx context.Context, mountpoint string, cmd MountCmd) error
	// Remount replaces image and configuration in place.
	Remount(ctx context.Context, mountpoint string, cmd MountCmd) error
	// Unmount never refuses because something is still in use.
	Unmount(ctx context.Context, mountpoint string) error
	// Backend summarises the image at mountpoint.
	Backend(ctx context.Context, mountpoint string) (SuperBlock, error)
}

// A MetricsKind selects a kind of counters.
type MetricsKind uint8

// The kinds of counters.
const (
	FSMetrics        MetricsKind = iota // FSStats
	FilesMetrics                        // map of inode to FileStats, or ranges if Latest
	PatternMetrics                      // []AccessPattern
	BackendMetrics                      // BackendStats
	BlobcacheMetrics                    // BlobcacheStats
	InflightMetrics                     // []Inflight, nil when idle
)

// A MetricsQuery asks for the counters of one file system, backend or cache.
type MetricsQuery struct {
	Kind   MetricsKind
	ID     string
	HasID  bool // without an id there must be exactly one counter of the kind
	Latest bool // FilesMetrics only
}

// Stats is the daemon's counters.
type Stats interface {
	// Metrics returns a value that encodes to the answer; nil means "no content".
	// An unknown or ambiguous id is an *Error of kind NoCounter.
	Metrics(q MetricsQuery) (any, error)
	// Families returns the same and more for Prometheus.
	Families() []Family
	// Abort ends the waits of requests, which are then answered with an error. That
	// there is none with the number is an *Error of kind NoCounter.
	Abort(q AbortQuery) (Aborted, error)
}

// An AbortQuery says which of the requests that wait for data shall end.
type AbortQuery struct {
	Unique uint64        // one, by its number in Inflight, or
	All    bool          // all that
	Age    time.Duration // have waited that long
}

// Aborted is the answer to an AbortQuery.
type Aborted struct {
	Requests int `json:"aborted"`
}

// Overrides is configuration that may change while an image is mounted.
type Overrides interface {
	// Override returns the values set so far for an id.
	Override(id string) map[string]string
	// SetOverride applies all values or none.
	SetOverride(id string, values map[string]string) error
}

// Blobs is a singleton daemon's images.
type Blobs interface {
	// PutBlob binds an image; entry is the JSON text of a blob cache entry. One that
	// can't be used whatever the circumstances is an *Error of kind BadRequest, with a text.
	PutBlob(ctx context.Context, entry []byte) error
	// UnbindBlob drops one image of a domain, or all of it if blobID is "".
	UnbindBlob(ctx context.Context, domainID, blobID string) error
	// DeleteBlob deletes the cache file of a blob.
	DeleteBlob(ctx context.Context, blobID string) error
	// ListBlobs lists the images of a domain, or with "" all of them.
	ListBlobs(domainID string) ([]BoundBlob, error)
}
