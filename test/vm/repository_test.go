package vm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gitEnv makes what git makes the same everywhere.
var gitEnv = []string{
	"PATH=/usr/bin:/bin", "HOME=/", "GIT_CONFIG_NOSYSTEM=1", "GIT_TEMPLATE_DIR=", "LC_ALL=C", "TZ=UTC",
	"GIT_AUTHOR_NAME=A U Thor", "GIT_AUTHOR_EMAIL=author@example.com", "GIT_AUTHOR_DATE=1700000000 +0000",
	"GIT_COMMITTER_NAME=C O Mitter", "GIT_COMMITTER_EMAIL=committer@example.com", "GIT_COMMITTER_DATE=1700000000 +0000",
}

// checkoutScript clones the repository $1 into the directory $2, works in it as people
// do, and prints what came of it. It uses nothing but git.
const checkoutScript = `
set -e
git clone -q -b main "$1" "$2"
cd "$2"
git checkout -q -b work origin/topic
echo more >>deep/0/0/file-00
git mv file-01 deep/moved
git rm -q file-02
git add -A
git commit -q -m work
git merge -q -m merge origin/main
git checkout -q --detach main
git checkout -q work
git gc -q
git fsck --full --strict
git reset -q
git update-index -q --really-refresh
git status --porcelain
git log --format='%H %T %s' --all
git ls-files -s
git ls-files | git hash-object --stdin-paths
`

// runGit runs a shell script that uses git on this host.
func runGit(t testing.TB, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = gitEnv
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("git: %v\n%s", err, complaints.Bytes())
	}
	return out.String()
}

// makeRepository makes a bare repository with two branches, in packs and in loose objects.
func makeRepository(t testing.TB, bare string) {
	t.Helper()
	dir, r := t.TempDir(), rand.New(rand.NewPCG(1, 2))
	runGit(t, `cd "$1" && git init -q -b main`, dir)
	write := func(name string, mode os.FileMode, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		text := strings.Repeat(fmt.Sprintln("line", r.IntN(100)), 1+r.IntN(200))
		write(fmt.Sprintf("file-%02d", i), 0o644+0o111*os.FileMode(i%2), []byte(text))
		write(fmt.Sprintf("deep/%d/%d/file-%02d", i%3, i%5, i), 0o644, []byte(text))
	}
	binary := make([]byte, 700<<10)
	for i := range binary {
		binary[i] = byte(r.Uint32())
	}
	write("binary", 0o644, binary)
	write("empty", 0o644, nil)
	write("names/with spaces é世界 "+strings.Repeat("x", 200), 0o644, []byte("text"))
	if err := os.Symlink("../file-00", filepath.Join(dir, "names/link")); err != nil {
		t.Fatal(err)
	}
	commit := `cd "$1" && git add -A && git commit -q -m "$2"`
	runGit(t, commit, dir, "first")
	runGit(t, `cd "$1" && git gc -q && git checkout -q -b topic`, dir)
	for i := range 30 {
		write(fmt.Sprintf("file-%02d", 2*i), 0o755, fmt.Appendf(nil, "other %d", i))
	}
	runGit(t, commit, dir, "topic")
	runGit(t, `cd "$1" && git checkout -q main`, dir)
	write("later", 0o600, []byte("on main"))
	runGit(t, commit, dir, "second")
	runGit(t, `git clone -q --bare --no-hardlinks "$1" "$2"`, dir, bare)
}
