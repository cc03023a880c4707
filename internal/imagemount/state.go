package imagemount

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/internal/apiclient"
	"vrafs/internal/mountinfo"
	"vrafs/internal/opener"
)

// Names in the state directory of a mount.
const (
	noteName      = "mount.json"
	detachedName  = "detached.json" // the note of a mount that was detached
	bootstrapName = "image.boot"
	socketName    = "api.sock"
	logName       = "daemon.log"
	outputName    = "daemon.out" // what it says before it has a log; locked while it lives
)

// A note says what a state directory belongs to.
type note struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"` // of the manifest
	Dir    string `json:"dir"`    // the mountpoint
}

// A state is the directory of one mount.
type state struct {
	dir  string   // of the state
	at   string   // mountpoint, as the kernel has it
	out  *os.File // for the daemon, of a state that is new
	held *os.File // dir, as it was found; nil: it is not to be told from a later one
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// Home is where the calling user's state directories are, unless told otherwise: for
// root /run/vrafs/mounts, else vrafs/mounts in $XDG_RUNTIME_DIR, or a directory of
// the user's in the one for temporary files.
func Home() string {
	if os.Geteuid() == 0 {
		return "/run/vrafs/mounts"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "vrafs", "mounts")
	}
	return filepath.Join(os.TempDir(), "vrafs-"+strconv.Itoa(os.Geteuid()), "mounts")
}

// A place is a mountpoint with the states of what was mounted there. All but one belong to
// mounts that were detached while somebody used them.
type place struct {
	home, name string
	at         string // as the kernel has it
}

// maxStates is how many mounts of one place can be in use at a time.
const maxStates = 64

// placeOf is the place of dir, which may not exist.
func placeOf(home, dir string) (*place, error) {
	at, err := mountinfo.Place(dir)
	if err != nil {
		return nil, fmt.Errorf("mountpoint: %w", err)
	}
	sum := sha256.Sum256([]byte(at))
	return &place{home: home, name: fmt.Sprintf("%x", sum[:8]), at: at}, nil
}

// state is the n-th state of the place.
func (p *place) state(n int) *state {
	name := p.name
	if n > 0 {
		name += "-" + strconv.Itoa(n)
	}
	return &state{dir: filepath.Join(p.home, name), at: p.at}
}

// current is the state of what is mounted there; fs.ErrNotExist if Mount mounted nothing.
func (p *place) current() (*state, error) {
	for n := range maxStates {
		s := p.state(n)
		if _, err := os.Lstat(s.path(noteName)); !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	return nil, fs.ErrNotExist
}

// create makes the state of a new mount, whose output is open and locked. What daemons
// that are gone left behind is removed.
func (p *place) create(ctx context.Context, n note) (*state, error) {
	if err := os.MkdirAll(p.home, 0o700); err != nil {
		return nil, err
	}
	if err := private(p.home); err != nil {
		return nil, err
	}
	unlock, err := lock(p.home)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sweep(ctx, p.home)
	switch s, err := p.current(); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case s.mounted() || s.used(ctx):
		return nil, fmt.Errorf("%s: an image is mounted there already", p.at)
	default:
		if err := os.RemoveAll(s.dir); err != nil {
			return nil, err
		}
	}
	for i := range maxStates {
		s := p.state(i)
		if s.used(ctx) {
			continue
		}
		if err := os.RemoveAll(s.dir); err != nil {
			return nil, err
		}
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			return nil, err
		}
		if err := s.fill(n); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
		return s, nil
	}
	return nil, fmt.Errorf("%s: %d images that were unmounted there are still in use", p.at, maxStates)
}

// fill opens and locks the output, which every process of the mount inherits, and then
// says what the state belongs to.
func (s *state) fill(n note) (err error) {
	s.out, err = os.OpenFile(s.path(outputName), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	text, err := json.Marshal(n)
	if err == nil {
		err = unix.Flock(int(s.out.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = os.WriteFile(s.path(noteName), text, 0o600)
	}
	if err != nil {
		_ = s.out.Close()
	}
	return err
}

// hold tells the state from another that takes its place in the meantime, until release.
func (s *state) hold() (err error) {
	s.held, err = os.Open(s.dir)
	return err
}

func (s *state) release() { _ = s.held.Close() }

// gone reports whether a state that is held was removed, and another may be in its place.
func (s *state) gone() bool {
	if s.held == nil {
		return false
	}
	was, err := s.held.Stat()
	if err != nil {
		return false
	}
	is, err := os.Stat(s.dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(was, is)
}

// lock keeps others from making and removing states.
func lock(home string) (unlock func(), err error) {
	f, err := os.Open(home)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", home, err)
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes what belonged to mounts that were detached and are no longer used. What
// cannot be removed waits for the next time. Preconditions: home is locked.
func sweep(ctx context.Context, home string) {
	all, err := os.ReadDir(home)
	if err != nil {
		return
	}
	for _, e := range all {
		s := &state{dir: filepath.Join(home, e.Name())}
		if _, err := os.Lstat(s.path(detachedName)); err == nil && !s.used(ctx) {
			_ = os.RemoveAll(s.dir)
		}
	}
}

// detach marks the state as that of a mount which is no longer at its place.
func (s *state) detach(home string) error {
	unlock, err := lock(home)
	if err != nil {
		return err
	}
	defer unlock()
	if s.gone() {
		return nil
	}
	return os.Rename(s.path(noteName), s.path(detachedName))
}

// used reports whether a process of the mount is left. All hold the lock on the output;
// a daemon that took over from another has one of its own, and answers. One that cannot
// be asked is there.
func (s *state) used(ctx context.Context) bool {
	if s.gone() {
		return false
	}
	f, err := os.Open(s.path(outputName))
	if err == nil {
		defer f.Close()
		if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK) {
			return true
		}
	}
	return s.alive(ctx) || ctx.Err() != nil
}

// private refuses a directory that somebody else could put things into.
func private(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(owner.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: must be a directory that only its user, %d, can write to", dir, os.Geteuid())
	}
	return nil
}

// mounted reports whether something is mounted there.
func (s *state) mounted() bool {
	_, err := mountinfo.Device(opener.Local(), s.at)
	return err == nil
}

// alive reports whether the daemon answers.
func (s *state) alive(ctx context.Context) bool {
	c := apiclient.New(s.path(socketName))
	defer c.Close()
	_, err := c.Do(ctx, "GET", "/api/v1/daemon", nil)
	return err == nil
}
