package passthrough_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vrafs/internal/testfsx"
)

// childEnv names what a copy of the test binary is to do instead of testing. A process
// that serves a mount must not map its files: a page that has to be read keeps the
// whole of it from going on.
const childEnv = "VRAFS_PASSTHROUGH_CHILD"

var children = map[string]func(args []string) error{
	"exercise": exercise,
	"walk":     walkPoor,
	"hold":     lockAndHold,
	"count":    countLocked,
	"make":     makeCounter,
}

func TestMain(m *testing.M) {
	what := os.Getenv(childEnv)
	if what == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := children[what](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runChild runs a child to its end.
func runChild(t *testing.T, what string, args ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	if len(out) != 0 {
		t.Logf("%s", out)
	}
}

// exercise does random things to some files in a directory.
func exercise(args []string) error {
	dir := args[0]
	ops, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	const files = 2
	var wg sync.WaitGroup
	ended := make(chan error, files)
	for seed := range uint64(files) {
		wg.Go(func() {
			done, err := testfsx.Run(filepath.Join(dir, fmt.Sprint("file-", seed)), testfsx.Options{Ops: ops, Seed: seed})
			fmt.Println(done)
			ended <- err
		})
	}
	wg.Wait()
	for range files {
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}
