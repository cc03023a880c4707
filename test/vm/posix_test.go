package vm

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"
)

// posixProgram is this test's own program in a guest: by that name it runs go-fuse's
// suite in the directory posixFiles.
const (
	posixProgram = "posixtest"
	posixFiles   = "/files"
)

// runPosixSuite is the program posixProgram, to its end.
func runPosixSuite() {
	var tests []testing.InternalTest
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if name == "FcntlFlockLocksFile" { // a lock of fcntl and one of flock: local file systems keep them apart
			continue
		}
		tests = append(tests, testing.InternalTest{Name: name, F: func(t *testing.T) {
			dir := filepath.Join(posixFiles, name)
			check(t, os.Mkdir(dir, 0o755))
			posixtest.All[name](t, dir)
		}})
	}
	every := func(string, string) (bool, error) { return true, nil }
	testing.Main(every, tests, nil, nil)
}

// TestPosixSuiteAndDbenchPassInAGuest runs both in a shared directory that has an image
// beside it, so that the guest's kernel is between them and the daemon.
func TestPosixSuiteAndDbenchPassInAGuest(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.Dbench)
	seconds := "3"
	if testenv.Soak() {
		seconds = "120"
	}
	self, err := os.Executable()
	check(t, err)
	tree := t.TempDir()
	check(t, os.WriteFile(filepath.Join(tree, "file"), []byte("beside"), 0o644))
	im := makeImage(t, variants[0], tree)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			p := startPod(t, series)
			check(t, p.d.Mount(t.Context(), "/rafs/c/lowerdir", im.Bootstrap, im.BlobDir))
			install(t, self, filepath.Join(p.dir, "bin", posixProgram))
			addHostPrograms(t, p.dir, "dbench")
			load := "/usr/share/dbench/client.txt"
			install(t, load, filepath.Join(p.dir, load))
			root := p.asRoot(t)
			run := func(argv ...string) string {
				t.Helper()
				r := call[guestapi.RunResult](t, p.m, guestapi.Run, guestapi.RunArgs{Root: root, Argv: argv, Timeout: 5 * time.Minute})
				t.Logf("%s ran in %v", argv[0], r.Took.Round(time.Millisecond))
				if r.Code != 0 {
					t.Errorf("%q: exit code %d\n%s", argv, r.Code, r.Output)
				}
				return r.Output
			}
			out := run("/bin/"+posixProgram, "-test.v")
			passed, skipped := strings.Count(out, "--- PASS: "), strings.Count(out, "--- SKIP: ")
			t.Logf("%d of %d tests passed, %d skipped themselves", passed, len(posixtest.All), skipped)
			if passed < len(posixtest.All)-3 {
				t.Error(out)
			}
			if out := run("/bin/dbench", "--directory", posixFiles, "--timelimit", seconds, "2"); !strings.Contains(out, "\n WriteX ") {
				t.Errorf("dbench wrote nothing:\n%s", out)
			}
		})
	}
}
