package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestMain keeps what all tests share: the compiled programs.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == posixProgram {
		runPosixSuite() // does not return
	}
	dir, err := os.MkdirTemp("", "vrafs-vm-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var binDir string

var guestProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "guest")
	return path, BuildGuest(context.Background(), path)
})

// bootDeadline bounds one machine from its start to its end.
const bootDeadline = 8 * time.Minute

// boot starts a machine of the series that ends with the test; its directory is
// kept and named if the test failed.
func boot(t testing.TB, series string, o Options) *Machine {
	t.Helper()
	testenv.Need(t, testenv.QEMU, testenv.GuestKernel)
	k, err := FetchKernel(t.Context(), series)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := guestProgram()
	if err != nil {
		t.Fatal(err)
	}
	o.Kernel, o.Guest = k, guest
	// Not t.Context: that ends before the clean-up that looks at the console.
	ctx, cancel := context.WithTimeoutCause(context.Background(), bootDeadline, fmt.Errorf("deadline of %v", bootDeadline))
	start := time.Now()
	m, err := Start(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Logf("%s booted in %v", m.Release, time.Since(start).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			m.Keep()
			t.Logf("kept %s%s", m.Dir, m.Tail(20))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		cancel()
	})
	return m
}

// call has the guest execute a command and returns its result.
func call[R any](t testing.TB, m *Machine, cmd guestapi.Command, args any) R {
	t.Helper()
	var r R
	if err := m.Call(cmd, args, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// do is call for commands without a result.
func do(t testing.TB, m *Machine, cmd guestapi.Command, args any) {
	t.Helper()
	call[struct{}](t, m, cmd, args)
}

// manifest scans a tree on the host.
func manifest(t testing.TB, dir string) []byte {
	t.Helper()
	entries, err := testtree.Scan(dir, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := testtree.WriteManifest(&b, entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compare fails the test unless the guest sees at a.Path what is wanted.
func compare(t testing.TB, m *Machine, a guestapi.CompareArgs) {
	t.Helper()
	r := call[guestapi.CompareResult](t, m, guestapi.Compare, a)
	t.Logf("%s: %d entries, %d MiB apparent, in %v", a.Path, r.Entries, r.Bytes>>20, r.Took.Round(time.Millisecond))
	if r.Differences > 0 {
		t.Fatalf("%s: %d differences:\n%s", a.Path, r.Differences, strings.Join(r.Lines, "\n"))
	}
	if r.Entries < 2 {
		t.Fatalf("%s: only %d entries", a.Path, r.Entries)
	}
}
