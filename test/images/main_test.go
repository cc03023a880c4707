package images

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

// programs are built once, side by side.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/vrafs", "./cmd/vrafsd")
	cmd.Dir, cmd.Env = testenv.ModuleRoot(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return dir, os.Chmod(dir, 0o755)
})

// A user runs vrafs with directories of its own.
type user struct {
	t            *testing.T
	state, cache string   // directories
	wrap         []string // command and arguments that run a command as the user
}

func newUser(t *testing.T) *user {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") // t.TempDir's names are too long for sockets
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	return &user{t: t, state: filepath.Join(dir, "state"), cache: filepath.Join(dir, "cache")}
}

// try runs vrafs and gives all that it says.
func (u *user) try(args ...string) (string, error) {
	u.t.Helper()
	dir, err := programs()
	must(u.t, err)
	argv := append(append([]string{}, u.wrap...), filepath.Join(dir, "vrafs"))
	argv = append(argv, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// vrafs runs it, and it must succeed.
func (u *user) vrafs(args ...string) string {
	u.t.Helper()
	out, err := u.try(args...)
	if err != nil {
		u.t.Fatalf("vrafs %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused runs it, and it must fail with a message that has all of the words.
func (u *user) refused(args []string, words ...string) string {
	u.t.Helper()
	out, err := u.try(args...)
	if err == nil {
		u.t.Errorf("vrafs %s: success", strings.Join(args, " "))
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			u.t.Errorf("vrafs %s said %q, want %q in it", strings.Join(args, " "), out, w)
		}
	}
	return out
}

// must ends the test at an error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
