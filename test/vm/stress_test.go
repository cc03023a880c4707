package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"
)

// guestStressors are those of stress-ng that have the guest's cache and the daemon agree
// on names, attributes, data and what is mapped. All pass on the host's ext4.
const guestStressors = "chmod chown dentry dir fallocate fcntl flock fpunch fstat getdent hdd iomix link lockf mknod msync open rename seek symlink touch utime xattr"

// TestStressorsPassInAGuest has stress-ng do what programs can do to files, much at once,
// to a shared directory that it was started from, and that has an image beside it.
func TestStressorsPassInAGuest(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.StressNG)
	seconds := "3"
	if testenv.Soak() {
		seconds = "120"
	}
	tree := t.TempDir()
	check(t, os.WriteFile(filepath.Join(tree, "file"), []byte("beside"), 0o644))
	im := makeImage(t, variants[0], tree)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			p := startPod(t, series)
			check(t, p.d.Mount(t.Context(), "/rafs/c/lowerdir", im.Bootstrap, im.BlobDir)) // so that workers write
			addHostPrograms(t, p.dir, "stress-ng")
			root := p.asRoot(t)
			base := []string{"/bin/stress-ng", "--timeout", seconds, "--temp-path", "/files", "--verify", "--metrics-brief", "--yaml", "/metrics",
				"--hdd-bytes", "4m", "--iomix-bytes", "4m", "--seek-size", "4m", "--fallocate-bytes", "4m", "--dentries", "64", "--dir-dirs", "64"}
			todo := strings.Fields(guestStressors)
			for round := 0; len(todo) > 0; round++ { // on a busy machine the time is over before the last have begun
				argv := slices.Clone(base)
				for _, stressor := range todo {
					argv = append(argv, "--"+stressor, "1")
				}
				r := call[guestapi.RunResult](t, p.m, guestapi.Run, guestapi.RunArgs{Root: root, Argv: argv, Timeout: 5 * time.Minute})
				if r.Code != 0 || round == 4 {
					t.Fatalf("%q: exit code %d\n%s", todo, r.Code, r.Output)
				}
				do(t, p.m, guestapi.DropCache, nil)
				metrics := string(readFile(t, filepath.Join(p.dir, "metrics")))
				todo = slices.DeleteFunc(todo, func(s string) bool { return strings.Contains(metrics, " stressor: "+s+"\n") })
				t.Logf("ran in %v, left %q", r.Took.Round(time.Millisecond), todo)
			}
			left, err := filepath.Glob(filepath.Join(p.dir, "files/*"))
			if err != nil || len(left) != 0 {
				t.Errorf("left on the host: %q, %v", left, err)
			}
		})
	}
}
