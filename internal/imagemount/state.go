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

	"vrafs/internal/apiclient"
	"vrafs/internal/mountinfo"
	"vrafs/internal/opener"
)

// Names in the state directory of a mount.
const (
	noteName      = "mount.json"
	bootstrapName = "image.boot"
	socketName    = "api.sock"
	logName       = "daemon.log"
	outputName    = "daemon.out" // what it says before it has a log
)

// A note says what a state directory belongs to.
type note struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"` // of the manifest
	Dir    string `json:"dir"`    // the mountpoint
}

// A state is the directory of one mount.
type state struct {
	dir string // of the state
	at  string // mountpoint, as the kernel has it
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

// stateOf is the state of the mount at dir, which may not exist.
func stateOf(home, dir string) (*state, error) {
	at, err := mountinfo.Place(dir)
	if err != nil {
		return nil, fmt.Errorf("mountpoint: %w", err)
	}
	sum := sha256.Sum256([]byte(at))
	return &state{dir: filepath.Join(home, fmt.Sprintf("%x", sum[:8])), at: at}, nil
}

// create makes the state directory. What a daemon that died left behind is removed.
func (s *state) create(ctx context.Context, n note) error {
	home := filepath.Dir(s.dir)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := private(home); err != nil {
		return err
	}
	err := os.Mkdir(s.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if s.mounted() || s.alive(ctx) {
			return fmt.Errorf("%s: an image is mounted there already", s.at)
		}
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
		err = os.Mkdir(s.dir, 0o700)
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(s.path(noteName), text, 0o600)
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

// read gives the note; fs.ErrNotExist if there is no such mount.
func (s *state) read() (n note, err error) {
	text, err := os.ReadFile(s.path(noteName))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(text, &n)
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
