package daemon

import (
	"log/slog"
	"net/http"
	"time"

	"vrafs/internal/cli"
	"vrafs/internal/opener"
)

// A Config is everything a daemon is told at its start. Exactly one of VirtioFS, FUSE
// and Singleton is set.
type Config struct {
	VirtioFS  *VirtioFS
	FUSE      *FUSE
	Singleton *Singleton
	// Root is what is mounted at start, perhaps nothing.
	Root Root
	// APISocket is the path of the control socket; "" for none.
	APISocket string
	// ID and Supervisor are both set or both empty.
	ID, Supervisor string
	// Upgrade starts in state INIT, to wait for a takeover.
	Upgrade bool
	Limits  Limits
	// CredentialHelper is the Unix socket that is asked for the credentials of registries
	// whose configuration names no other; or empty.
	CredentialHelper string
	// Writeback lets guests keep what they write to shared directories for later.
	Writeback bool
	// Header goes with every request to a network back end.
	Header http.Header

	// Log receives everything; Level is what the API changes.
	Log    *slog.Logger
	Level  *slog.LevelVar
	Build  cli.Build
	Opener opener.Opener
}

// Root is the file system given on the command line.
type Root struct {
	Bootstrap  string // RAFS metadata, or
	SharedDir  string // a directory, or neither
	ConfigFile string // for Bootstrap
	LocalDir   string // instead of ConfigFile: blobs and cache in one directory
	Mountpoint string // where in the virtual file system, "/" as a rule
	// PrefetchFiles replaces the image's own prefetch table; nil leaves it.
	PrefetchFiles []string
	// RegistryAuth replaces the registry credentials in ConfigFile unless empty.
	RegistryAuth string
}

// VirtioFS is a vhost-user back-end that serves one guest.
type VirtioFS struct {
	Socket string // where front-ends connect
	// Hybrid answers OPEN and OPENDIR with handles even where only one image is
	// served.
	Hybrid bool
	// Queues is the number of request queues.
	Queues uint
	// QueueSize limits a ring's entries; 0 leaves it to the protocol.
	QueueSize uint
	// Tag is offered in the configuration space unless empty.
	Tag string
	// AnyMemory takes guest memory from files on block devices too.
	AnyMemory bool
	// OrphanAfter is how long the daemon stays without a front-end when its
	// parent has died or its socket's directory is gone; 0 for ever.
	OrphanAfter time.Duration
	// Argv is this program's command line without what belongs to one life of it, for
	// an upgrade in place; empty: there is none.
	Argv []string
	// Continue is the descriptor of what a former life of this process left, 0 for
	// none; see Argv.
	Continue int
}

// FUSE is a mount of this host.
type FUSE struct {
	Mountpoint     string
	Threads        uint
	Writable       bool
	FailoverPolicy string // none, resend or flush
	// Argv is this program's command line, for a keeper to start it again when it
	// dies; empty for no keeper. With a supervisor there is none.
	Argv []string
	// Resume goes on for a predecessor, with what the keeper that started this process
	// holds.
	Resume bool
}

// Singleton is a daemon for images that clients bind and the kernel mounts.
type Singleton struct {
	FSCache string // directory of the kernel's cache; "" for none
	Threads uint
	List    string // file of images to bind at start; "" for none
}

// Limits bound what the daemon uses. Zero values choose by the machine.
type Limits struct {
	Workers       uint   // requests that wait for data at once
	Decompressors uint   // goroutines that decode chunks
	FetchBytes    uint64 // bytes in flight from back ends
	// Bandwidth and PrefetchBandwidth are bytes per second from network back ends, of all
	// mounts together; 0: no bound.
	Bandwidth, PrefetchBandwidth uint64

	CacheBytes uint64 // of a cache directory whose configuration has no limit; 0: none
	Memory     uint64 // Go heap, soft, in bytes
	OpenFiles  uint64 // RLIMIT_NOFILE; 0 leaves it alone
	// RequestTime is how long a request may wait for data before it ends in EIO; 0
	// is for ever.
	RequestTime time.Duration
}
