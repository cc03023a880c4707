package containerd

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

var modes = []string{"dedicated", "shared"}

func TestContainersUnderFailover(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t, mode, "failover")
			// Each begins where the one before has ended; a hung file system would hang
			// the next.
			_ = t.Run("image_is_loaded_lazily", s.loadsLazily) &&
				t.Run("killed_daemon_fails_no_read", s.survivesKills) &&
				t.Run("upgraded_daemon_fails_no_read", s.survivesUpgrades) &&
				t.Run("restarted_snapshotter_fails_no_read", s.survivesSnapshotter) &&
				t.Run("removed_image_leaves_nothing", s.leavesNothing)
		})
	}
}

// loadsLazily reads one file of an image of which only the bootstrap was pulled.
func (s *stage) loadsLazily(t *testing.T) {
	s.pull()
	s.readOnce(t, "lazy", "file3")
	log := s.registry.log()
	for _, digest := range s.conv.Blobs {
		if strings.Contains(log, `"GET /v2/app/blobs/`+digest) {
			t.Errorf("blob %s was pulled", digest)
		}
	}
	if !strings.Contains(log, `"GET /v2/app/manifests/`) {
		t.Error("the registry's log shows no pull")
	}
	_, name, _ := strings.Cut(s.conv.Blobs[1], ":")
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(s.path("cache"), name+".blob.data"), &st))
	if stored := st.Blocks * 512; stored < dataSize || stored > 3*dataSize {
		t.Errorf("%d bytes of the data layer are stored after a read of %d", stored, dataSize)
	}
}

// statesKept is how often the snapshotter has taken a daemon's state. It does that
// last after each start, and sees a daemon's death only from then on.
func (s *stage) statesKept() int { return strings.Count(s.snapshotter.log(), "receives states") }

// kill kills the daemon and waits until its successor serves and can be killed.
func (s *stage) kill(t *testing.T) {
	t.Helper()
	kept, old := s.statesKept(), s.daemon()
	must(t, unix.Kill(old.PID, unix.SIGKILL))
	until(t, "successor", func() error {
		if s.statesKept() == kept {
			return fmt.Errorf("the snapshotter has no state of a successor of %d", old.PID)
		}
		return nil
	})
	if d := s.daemon(); d.PID == old.PID {
		t.Errorf("process %d still is the daemon", d.PID)
	}
}

func (s *stage) survivesKills(t *testing.T) {
	c := s.run(t, "kills")
	for range testenv.Rounds(100) {
		c.more(2)
		s.kill(t)
	}
	c.more(10)
	c.stop()
}

func (s *stage) survivesUpgrades(t *testing.T) {
	c := s.run(t, "upgrades")
	paths := []string{s.path("nydusd-next"), s.path("nydusd-after")}
	must(t, os.Symlink(program(t, "vrafsd"), paths[0]), os.Symlink(program(t, "vrafsd"), paths[1]))
	for i := range testenv.Rounds(50) {
		c.more(2)
		old := s.daemon()
		s.system(http.MethodPut, "/api/v1/daemons/upgrade", fmt.Sprintf(`{"nydusd_path":%q,"version":"next","policy":"rolling"}`, paths[i%2]))
		d := s.daemon()
		if state, err := d.state(t.Context()); err != nil || state != "RUNNING" || d.PID == old.PID || d.API == old.API {
			t.Errorf("daemon %+v after %+v: %s, %v", d, old, state, err)
		}
	}
	c.more(10)
	s.kill(t) // the state that the first daemon gave is good for its successors too
	c.more(10)
	c.stop()
}

func (s *stage) survivesSnapshotter(t *testing.T) {
	c := s.run(t, "snapshotter")
	c.more(2)
	old, kept := s.daemon(), s.statesKept()
	s.snapshotter.kill()
	c.more(2)
	s.startSnapshotter()
	until(t, "state of the daemon", func() error {
		if s.statesKept() == kept {
			return fmt.Errorf("the snapshotter has not asked for it")
		}
		return nil
	})
	if d := s.daemon(); d.PID != old.PID {
		t.Errorf("daemon %+v after %+v", d, old)
	}
	s.kill(t)
	c.more(10)
	c.stop()
}

func (s *stage) leavesNothing(t *testing.T) {
	s.ctr("images", "rm", "--sync", image)
	for _, d := range s.daemons() {
		if len(d.Instances) > 0 {
			t.Errorf("daemon %+v still has images", d)
		}
		if entries, err := os.ReadDir(d.Place); err != nil || len(entries) > 0 {
			t.Errorf("%s still shows %v, %v", d.Place, entries, err)
		}
	}
	if left := mountsBelow(t, s.path("nydus/snapshots")); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	left, err := os.ReadDir(s.path("cache"))
	if err != nil || len(left) > 0 {
		t.Errorf("still in the cache: %v, %v", left, err)
	}
}

// TestContainersUnderRestart kills the daemon under the policy that starts a new one:
// it breaks what runs, and what starts afterwards finds everything.
func TestContainersUnderRestart(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t, mode, "restart")
			s.pull()
			s.readOnce(t, "before", "file0")
			for i := range 3 {
				old := s.daemon()
				must(t, unix.Kill(old.PID, unix.SIGKILL))
				until(t, "new daemon", func() error { return s.restarted(t, old.PID) })
				s.readOnce(t, fmt.Sprint("after", i), fmt.Sprint("file", i))
			}
		})
	}
}

// restarted says what is missing until a new daemon serves the image.
func (s *stage) restarted(t *testing.T, old int) error {
	pids := running(t, program(t, "vrafsd"))
	if len(pids) != 1 || pids[0] == old {
		return fmt.Errorf("processes %v", pids)
	}
	d := s.daemon()
	state, err := d.state(t.Context())
	if err == nil && (state != "RUNNING" || d.PID == old) {
		err = fmt.Errorf("daemon %d: %s", d.PID, state)
	}
	for id := range d.Instances {
		if err == nil {
			place := d.Place
			if filepath.Base(place) == "mnt" && !strings.Contains(place, "/snapshots/") {
				place = filepath.Join(place, id)
			}
			_, err = os.Stat(filepath.Join(place, "sums"))
		}
	}
	return err
}
