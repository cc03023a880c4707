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
	"vrafs/test/vm/guestapi"
)

// startVirtiofsd serves dir with Debian's C virtiofsd until the test ends.
func startVirtiofsd(t *testing.T, dir string) (socket string) {
	t.Helper()
	testenv.Need(t, testenv.Virtiofsd)
	base, err := os.MkdirTemp("", "vrafs-peer-")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(base, "fs.sock")
	cmd := exec.Command(testenv.Program("virtiofsd"), "--thread-pool-size=0", "--socket-path="+socket, "-o", "source="+dir, "-o", "xattr", "-o", "no_posix_lock", "-o", "modcaps=+sys_admin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(base)
	})
	waitFor(t, "socket of virtiofsd", func() bool { _, err := os.Stat(socket); return err == nil })
	return socket
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
	testenv.Long(t)
	dir := testtree.Make(t, testtree.Small(1))
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			m := boot(t, series, Options{
				Filesystems: []Filesystem{{Socket: startVirtiofsd(t, dir), Tag: "peer"}},
				Files:       map[string][]byte{"manifest": manifest(t, dir)},
			})
			do(t, m, guestapi.Mount, guestapi.MountArgs{Source: "peer", Path: "/mnt", Type: "virtiofs"})
			compare(t, m, guestapi.CompareArgs{Path: "/mnt", Manifest: guestapi.FilesDir + "/manifest"})
		})
	}
}
