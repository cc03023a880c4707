package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// libraries are the files that a program of this machine is linked with, its loader
// among them, by their absolute paths.
func libraries(t testing.TB, program string) (paths []string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(field, "/") {
			paths = append(paths, field)
		}
	}
	return paths
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// addHostPrograms puts programs of this machine into a tree, as /bin/NAME, with what
// they are linked with where the loader looks for it.
func addHostPrograms(t testing.TB, tree string, names ...string) {
	t.Helper()
	for _, name := range names {
		program := testenv.Program(name)
		install(t, program, filepath.Join(tree, "bin", name))
		for _, library := range libraries(t, program) {
			install(t, library, filepath.Join(tree, library))
		}
	}
}

func install(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, readFile(t, from), 0o755); err != nil {
		t.Fatal(err)
	}
}
