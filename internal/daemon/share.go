package daemon

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/mountfs"
	"vrafs/fusesrv/passthrough"
)

const (
	// sharedType is the type of a shared directory in mount commands, sharedKind what
	// the API calls it.
	sharedType = "passthrough_fs"
	sharedKind = "PassthroughFs"
)

// shares is what all shared directories of a daemon have in common.
type shares struct {
	writeback bool
	settings  func() *fusesrv.Settings // of the connection; set by the transport
	numbers   passthrough.Numbers

	once        sync.Once
	descriptors *passthrough.Descriptors

	epoch int64 // tells this process's directories from those of others
	made  atomic.Uint64
}

func (s *shares) init(writeback bool) { s.writeback, s.epoch = writeback, time.Now().UnixNano() }

// flags is what to ask a guest for, since a directory may be shared at any time.
func (s *shares) flags() fusesrv.InitFlags {
	if s.writeback {
		return passthrough.Flags | fusesrv.WritebackCache
	}
	return passthrough.Flags
}

// limit is the bound of descriptors, which the daemon has raised by now.
func (s *shares) limit() *passthrough.Descriptors {
	s.once.Do(func() {
		limit := unix.Rlimit{Cur: 1024}
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) // cannot fail
		s.descriptors = passthrough.NewDescriptors(limit.Cur)
	})
	return s.descriptors
}

// openShared opens a directory to be shared.
func (d *Daemon) openShared(source string) (*content, error) {
	fs, err := passthrough.New(d.o, source, passthrough.Options{
		Settings: d.shares.settings, Numbers: &d.shares.numbers, Descriptors: d.shares.limit(),
		Beside: func() bool { return d.mounts.n.Load() > 1 },
	})
	if err != nil {
		return nil, fmt.Errorf("share directory: %w", err)
	}
	// What a guest knows of the directory is known to this process alone.
	identity := fmt.Sprintf("%s %d %d", sharedKind, d.shares.epoch, d.shares.made.Add(1))
	return &content{
		kind: sharedKind, fs: fs, start: func() {}, close: sync.OnceFunc(fs.Close),
		options: mountfs.MountOptions{Identity: identity, OwnInos: true, Handles: true, Xattrs: true, Latches: passthrough.Latches},
	}, nil
}

// isSharedIdentity tells shared directories among saved mounts.
func isSharedIdentity(identity string) bool { return strings.HasPrefix(identity, sharedKind+" ") }
