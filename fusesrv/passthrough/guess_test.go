package passthrough

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
)

// TestGuessedNodesAreHeldWholeOrNotAtAll: ids can be guessed, so a guest may name a node at
// the very moment that it is made, in a slot that was another's. The race detector sees a
// use that is not counted under the lock of the node's shard.
func TestGuessedNodesAreHeldWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	l := firstLife(t, dir, Options{NoHandles: true})
	for _, name := range []string{"one", "two", "three"} { // of shards of their own
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var next atomic.Uint64 // the id that is given out next
	var end atomic.Bool
	var guests sync.WaitGroup
	for range 2 {
		guests.Go(func() {
			for !end.Load() {
				h, e := l.fs.nodes.hold(next.Load())
				if e == 0 {
					l.fs.drop(&h)
				} else if !errors.Is(e, unix.ESTALE) {
					t.Error(e)
					return
				}
			}
		})
	}
	for range testenv.Rounds(10_000) {
		for _, name := range []string{"one", "two", "three"} {
			e, err := fusesrvtest.Lookup(l, fusesrv.RootID, name)
			if err != nil {
				t.Fatal(err)
			}
			next.Store(e.NodeID + 1<<slotBits)
			if err := fusesrvtest.Forget(l, e.NodeID, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	end.Store(true)
	guests.Wait()
	if n := l.fs.Nodes(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	l.fs.Close()
	if n := l.fs.fds.Used(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
}
