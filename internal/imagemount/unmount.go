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

// endLimit is how long a daemon may take to end once its mount is gone.
const endLimit = 5 * time.Second

var (
	// ErrNotMounted is the class of unmounting what Mount didn't mount.
	ErrNotMounted = errors.New("no image is mounted there by vrafs mount")
	// ErrBusy is the class of unmounting what somebody uses.
	ErrBusy = errors.New("in use")
)

// Unmount takes the mount at dir away, waits for its daemon and removes what belonged
// to it. With lazy, those who use it may go on until they end, and the daemon with them.
func Unmount(ctx context.Context, home, dir string, lazy bool) error {
	s, err := stateOf(home, dir)
	if err != nil {
		return err
	}
	if _, err := s.read(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.at, ErrNotMounted)
	} else if err != nil {
		return err
	}
	if s.mounted() {
		if err := s.unmount(ctx, lazy); err != nil {
			return err
		}
	}
	if err := s.gone(ctx, lazy); err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
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

// gone waits until the daemon no longer answers. One that stays is told to end.
func (s *state) gone(ctx context.Context, lazy bool) error {
	if lazy {
		return nil
	}
	c := apiclient.New(s.path(socketName))
	defer c.Close()
	limit, told := time.After(endLimit), false
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.alive(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			if told {
				return fmt.Errorf("the daemon of %s does not end", s.at)
			}
			if _, err := c.Do(ctx, "PUT", "/api/v1/daemon/exit", nil); err != nil && s.alive(ctx) {
				return fmt.Errorf("end the daemon: %w", err)
			}
			limit, told = time.After(endLimit), true
		}
	}
	return nil
}
