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

// modes are the snapshotter's, with how many daemons run before there is an image, and
// how often daemons are killed in the long run: two seconds each go by in the
// snapshotter, which waits for an unmount first.
var modes = []struct {
	name        string
	idle, kills int
}{{"dedicated", 0, 50}, {"shared", 1, 100}}

func TestContainersUnderFailover(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newStage(t, mode.name, "failover", "registry")
			// Each begins where the one before has ended; a hung file system would hang
			// the next.
			_ = t.Run("idle_daemon_has_a_successor", func(t *testing.T) { s.survivesIdle(t, mode.idle) }) &&
				t.Run("image_is_loaded_lazily", s.loadsLazily) &&
				t.Run("killed_daemon_fails_no_read", func(t *testing.T) { s.survivesKills(t, mode.kills) }) &&
				t.Run("upgraded_daemon_fails_no_read", s.survivesUpgrades) &&
				t.Run("restarted_snapshotter_fails_no_read", s.survivesSnapshotter) &&
				t.Run("removed_image_leaves_nothing", s.leavesNothing)
		})
	}
}

// survivesIdle kills the daemon that runs before there is an image, if the mode has
// one.
func (s *stage) survivesIdle(t *testing.T, daemons int) {
	if list := s.daemons(); len(list) != daemons {
		t.Fatalf("daemons %+v, want %d", list, daemons)
	}
	if daemons > 0 {
		until(t, "first state", s.keeps(0))
		s.kill(t)
	}
}

// loadsLazily reads one file of an image of which only the bootstrap was pulled.
func (s *stage) loadsLazily(t *testing.T) {
	s.pull()
	s.readOnce(t, "lazy", "file3")
	data := s.conv.Blobs[1]
	if sent := s.sent(t, data); sent < dataSize || sent > 3*dataSize {
		t.Errorf("the registry sent %d bytes of the data layer for a read of %d", sent, dataSize)
	}
	_, name, _ := strings.Cut(data, ":")
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(s.path("cache"), name+".blob.data"), &st))
	if stored := st.Blocks * 512; stored < dataSize || stored > 3*dataSize {
		t.Errorf("%d bytes of the data layer are stored after a read of %d", stored, dataSize)
	}
}

// sent is how many bytes of a blob the registry's log says were sent.
func (s *stage) sent(t *testing.T, digest string) (total int) {
	t.Helper()
	for line := range strings.Lines(s.registry.log()) {
		_, answer, ok := strings.Cut(line, `"GET /v2/app/blobs/`+digest+` HTTP/1.1" `)
		if !ok {
			continue
		}
		var status, n int
		_, err := fmt.Sscan(answer, &status, &n)
		must(t, err)
		total += n
	}
	return total
}

// statesKept is how often the snapshotter has taken a daemon's state. It does that
// last after each start, and sees a daemon's death only from then on.
func (s *stage) statesKept() int { return strings.Count(s.snapshotter.log(), "receives states") }

// keeps says whether the snapshotter has taken more states than so many.
func (s *stage) keeps(kept int) func() error {
	return func() error {
		if s.statesKept() <= kept {
			return fmt.Errorf("the snapshotter has taken %d states", kept)
		}
		return nil
	}
}

// kill kills the daemon and waits until its successor serves and can be killed.
func (s *stage) kill(t *testing.T) {
	t.Helper()
	kept, old := s.statesKept(), s.daemon()
	must(t, unix.Kill(old.PID, unix.SIGKILL))
	until(t, "state of the successor", s.keeps(kept))
	if d := s.daemon(); d.PID == old.PID {
		t.Errorf("process %d still is the daemon", d.PID)
	}
}

func (s *stage) survivesKills(t *testing.T, kills int) {
	s.kill(t)
	s.readOnce(t, "after", "file4") // by a successor that no container waited for
	c := s.run(t, "kills")
	for range testenv.Rounds(kills) {
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
	until(t, "state of the daemon", s.keeps(kept))
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
		t.Run(mode.name, func(t *testing.T) {
			s := newStage(t, mode.name, "restart", "localfs")
			s.pull()
			s.readOnce(t, "before", "file0")
			for i := range 2 {
				until(t, "watch over the daemon", func() error { return s.watched(t, i+1) })
				old := s.daemon()
				must(t, unix.Kill(old.PID, unix.SIGKILL))
				until(t, "new daemon", func() error { return s.restarted(t, old.PID) })
				s.readOnce(t, fmt.Sprint("again", i), fmt.Sprint("file", i))
			}
			for _, digest := range s.conv.Blobs {
				if sent := s.sent(t, digest); sent > 0 {
					t.Errorf("the registry sent %d bytes of %s, which localfs has", sent, digest)
				}
			}
		})
	}
}

// watched says what is missing until the snapshotter notices the death of the n-th
// daemon by the end of a connection, which it makes last. One that was not accepted
// yet would be inherited by the keeper's server, and nothing be noticed; connections
// are accepted in their order, so an answer to ours shows that it was.
func (s *stage) watched(t *testing.T, n int) error {
	if got := strings.Count(s.snapshotter.log(), "Subscribe daemon "); got < n {
		return fmt.Errorf("%d of %d daemons are watched", got, n)
	}
	d := s.daemon()
	_, err := d.state(t.Context())
	return err
}

// restarted says what is missing until a new daemon serves the image.
func (s *stage) restarted(t *testing.T, old int) error {
	d := s.daemon()
	state, err := d.state(t.Context())
	if err == nil && (state != "RUNNING" || d.PID == old || len(d.Instances) == 0) {
		err = fmt.Errorf("daemon %d with %d images: %s", d.PID, len(d.Instances), state)
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
