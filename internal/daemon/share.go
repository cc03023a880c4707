package daemon

import (
	"fmt"
	"maps"
	"slices"
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

	epoch int64 // tells this program's directories from those of others
	made  atomic.Uint64

	mu   sync.Mutex                 // held while they are handed over: none is closed then
	open map[string]*passthrough.FS // by identity
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

// shareOptions are those of every shared directory.
func (d *Daemon) shareOptions() passthrough.Options {
	return passthrough.Options{
		Settings: d.shares.settings, Numbers: &d.shares.numbers, Descriptors: d.shares.limit(),
		Beside: func() bool { return d.mounts.n.Load() > 1 },
	}
}

// openShared opens a directory to be shared.
func (d *Daemon) openShared(source string) (*content, error) {
	fs, err := passthrough.New(d.o, source, d.shareOptions())
	if err != nil {
		return nil, fmt.Errorf("share directory: %w", err)
	}
	// What a guest knows of the directory is known to this process alone.
	return d.shares.content(fmt.Sprintf("%s %d %d", sharedKind, d.shares.epoch, d.shares.made.Add(1)), fs), nil
}

// resumeShared goes on with a directory that a former program shared.
func (d *Daemon) resumeShared(s *savedShare, own owner) (*content, error) {
	s.taken = true
	o := d.shareOptions()
	o.Descriptor = own
	fs, err := passthrough.Resume(d.o, s.state, o)
	if err != nil {
		return nil, err
	}
	return d.shares.content(s.identity, fs), nil
}

// content is a shared directory as it is mounted.
func (s *shares) content(identity string, fs *passthrough.FS) *content {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]*passthrough.FS{}
	}
	s.open[identity] = fs
	return &content{
		kind: sharedKind, fs: fs, start: func() {}, close: sync.OnceFunc(func() {
			s.mu.Lock()
			delete(s.open, identity)
			s.mu.Unlock()
			fs.Close()
		}),
		options: mountfs.MountOptions{Identity: identity, OwnInos: true, Handles: true, Xattrs: true, Latches: passthrough.Latches},
	}
}

// save writes every shared directory down, and which descriptors a successor needs.
// s.mu is held.
func (s *shares) save(p *inPlace) (fds []int) {
	if len(s.open) == 0 {
		return nil
	}
	for _, identity := range slices.Sorted(maps.Keys(s.open)) {
		state, more := s.open[identity].State()
		p.shares = append(p.shares, &savedShare{identity: identity, state: state})
		fds = append(fds, more...)
	}
	p.numbers = s.numbers.State()
	return fds
}

// isSharedIdentity tells shared directories among saved mounts.
func isSharedIdentity(identity string) bool { return strings.HasPrefix(identity, sharedKind+" ") }
