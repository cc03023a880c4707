package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// shared holds the trees that many tests read and none changes.
var shared struct {
	sync.Mutex
	dir   string
	trees map[testtree.Options]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// sharedTree is a tree that is made once per run. Tests must not change it.
func sharedTree(t testing.TB, o testtree.Options) string {
	t.Helper()
	testenv.Need(t, testenv.Root)
	shared.Lock()
	defer shared.Unlock()
	if tree, ok := shared.trees[o]; ok {
		return tree
	}
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", "build-test-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir, shared.trees = dir, map[testtree.Options]string{}
	}
	tree := filepath.Join(shared.dir, fmt.Sprint(len(shared.trees)))
	if err := testtree.Generate(tree, o); err != nil {
		t.Fatal(err)
	}
	shared.trees[o] = tree
	return tree
}

func smallTree(t testing.TB) string { return sharedTree(t, testtree.Small(1)) }

// tarTree holds only what a tar can carry.
func tarTree(t testing.TB) string { return sharedTree(t, testtree.Options{Seed: 2, TarSafe: true}) }

// heapInUse is the memory that Go's heap takes at the moment.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
