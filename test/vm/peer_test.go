package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// startVirtiofsd serves dir with Debian's C virtiofsd until the test ends. It can
// drive one request queue only.
func startVirtiofsd(t testing.TB, dir string, options ...string) Filesystem {
	t.Helper()
	testenv.Need(t, testenv.Virtiofsd)
	base, err := os.MkdirTemp("", "vrafs-peer-")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(base, "fs.sock")
	args := []string{"--thread-pool-size=0", "--socket-path=" + socket}
	for _, o := range append([]string{"source=" + dir, "xattr", "no_posix_lock", "modcaps=+sys_admin"}, options...) {
		args = append(args, "-o", o)
	}
	cmd := exec.Command(testenv.Program("virtiofsd"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		_ = os.RemoveAll(base)
	})
	waitFor(t, "socket of virtiofsd", func() bool { _, err := os.Stat(socket); return err == nil })
	return Filesystem{Socket: socket, Queues: 1, Gone: gone}
}

// waitFor polls a condition that another process brings about.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-tick.C
	}
}

// TestHarnessSeesAPeersTree is the control: what the guest finds through another
// server of a plain directory must equal the directory, or a difference found
// elsewhere would mean nothing.
func TestHarnessSeesAPeersTree(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(1))
	addProgram(t, tree)
	chosen := Series[1:]
	if testenv.Soak() {
		chosen = Series
	}
	for _, series := range chosen {
		t.Run(series, func(t *testing.T) {
			s := &share{tag: "peer", device: startVirtiofsd(t, tree), tree: tree, manifest: manifest(t, tree)}
			m := bootWith(t, series, Options{}, s)
			s.mount(t, m)
			s.compare(t, m)
			s.checkExec(t, m)
			if testenv.Soak() {
				s.checkOverlay(t, m)
			}
		})
	}
}
