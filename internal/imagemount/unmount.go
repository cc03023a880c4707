package imagemount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/apiclient"
)

// endLimit is how long a daemon may take to end once its mount is gone, and lazyLimit how
// long is waited for it where it may be in use.
const (
	endLimit  = 5 * time.Second
	lazyLimit = 500 * time.Millisecond
)

var (
	// ErrNotMounted is the class of unmounting what Mount didn't mount.
	ErrNotMounted = errors.New("no image is mounted there by vrafs mount")
	// ErrBusy is the class of unmounting what somebody uses.
	ErrBusy = errors.New("in use")
)

// Unmount takes the mount at dir away, waits for its daemon and removes what belonged
// to it. With lazy, those who use it may go on until they end, and the daemon with them:
// what belonged to it is removed by the next Mount or Unmount after that.
func Unmount(ctx context.Context, home, dir string, lazy bool) error {
	p, err := placeOf(home, dir)
	if err != nil {
		return err
	}
	s, err := p.current()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", p.at, ErrNotMounted)
	}
	if err == nil {
		err = s.hold()
	}
	if err != nil {
		return err
	}
	defer s.release()
	if s.mounted() {
		if err := s.unmount(ctx, lazy); err != nil {
			return err
		}
	}
	if lazy {
		return s.leave(ctx, home)
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	return s.remove(ctx, home)
}

// remove removes what belonged to the mount, and what is left of detached ones. A mount
// that is in its place meanwhile keeps its own.
func (s *state) remove(ctx context.Context, home string) error {
	unlock, err := lock(home)
	if err != nil {
		return err
	}
	defer unlock()
	sweep(ctx, home)
	if s.gone() {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// leave gives a detached mount up, and removes what belonged to it if it turns out that
// nobody uses it.
func (s *state) leave(ctx context.Context, home string) error {
	if err := s.detach(home); err != nil {
		return err
	}
	s.await(ctx, lazyLimit)
	unlock, err := lock(home)
	if err != nil {
		return err
	}
	defer unlock()
	sweep(ctx, home)
	return nil
}

// await waits until no process of the mount is left, and reports whether that is so.
func (s *state) await(ctx context.Context, limit time.Duration) bool {
	end := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.used(ctx) {
		select {
		case <-tick.C:
		case <-end:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// unmount takes the mount away, through fusermount3 for users.
func (s *state) unmount(ctx context.Context, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(s.at, flags)
	if errors.Is(err, unix.EPERM) {
		err = fusermount(ctx, s.at, lazy)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w: end what has files or its working directory there", s.at, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", s.at, err)
	}
	return nil
}

func fusermount(ctx context.Context, at string, lazy bool) error {
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.CommandContext(ctx, "fusermount3", append(args, "--", at)...).CombinedOutput()
	if err != nil && strings.Contains(string(out), "busy") {
		return unix.EBUSY
	}
	if err != nil {
		return fmt.Errorf("fusermount3: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// end waits until no process of the mount is left. A daemon that stays is told to end.
func (s *state) end(ctx context.Context) error {
	if s.await(ctx, endLimit) {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c := apiclient.New(s.path(socketName))
	defer c.Close()
	if _, err := c.Do(ctx, "PUT", "/api/v1/daemon/exit", nil); err != nil && s.alive(ctx) {
		return fmt.Errorf("end the daemon: %w", err)
	}
	if !s.await(ctx, endLimit) {
		return fmt.Errorf("the daemon of %s does not end", s.at)
	}
	return nil
}
