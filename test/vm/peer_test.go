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
func startVirtiofsd(t *testing.T, dir string) Filesystem {
	t.Helper()
	testenv.Need(t, testenv.Virtiofsd)
	base, err := os.MkdirTemp("", "vrafs-peer-")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(base, "fs.sock")
	cmd := exec.Command(testenv.Program("virtiofsd"), "--thread-pool-size=0", "--socket-path="+socket, "-o", "source="+dir, "-o", "xattr", "-o", "no_posix_lock", "-o", "modcaps=+sys_admin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = nil
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
func waitFor(t *testing.T, what string, done func() bool) {
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
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			s := &share{tag: "peer", device: startVirtiofsd(t, tree), tree: tree, manifest: manifest(t, tree)}
			m := bootWith(t, series, Options{}, s)
			s.checkTree(t, m)
			s.checkOverlay(t, m)
			s.checkExec(t, m)
			s.checkMmap(t, m, "sizes/several-chunks", "sparse/islands")
			s.checkOffsets(t, m, "sparse/islands", []int64{0, 1 << 20, 2<<20 - 3000, 5 << 20}, 9000)
			unmount(t, m, s.dir())
		})
	}
}
