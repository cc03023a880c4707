package mountfs_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/testenv"
)

// A model is what a tree should be: which content every node ever seen stands
// for.
type model struct {
	c       *conn
	n       int               // contents made
	mounted map[string]string // content by mountpoint
	files   map[uint64]string // content of every file node ever seen
	open    map[uint64]int    // handles by node
}

var places = []string{"/", "/a", "/a/b", "/a/b/c", "/d/e"}

// Mount mounts new content somewhere.
func (m *model) Mount(t *rapid.T) {
	at := rapid.SampledFrom(places).Draw(t, "at")
	m.n++
	content := fmt.Sprint("content ", m.n)
	_, err := m.c.FS.Mount(at, &flat{content: content, names: []string{"f"}}, mountfs.MountOptions{Identity: content})
	if _, taken := m.mounted[at]; taken != (err != nil) {
		t.Fatalf("mount at %s, taken %v: %v", at, taken, err)
	}
	if err == nil {
		m.mounted[at] = content
	}
}

// Unmount takes something away.
func (m *model) Unmount(t *rapid.T) {
	at := rapid.SampledFrom(places).Draw(t, "at")
	_, there := m.mounted[at]
	if err := m.c.FS.Unmount(at); there != (err == nil) {
		t.Fatalf("unmount of %s, mounted %v: %v", at, there, err)
	}
	delete(m.mounted, at)
}

// Find looks up the file below every mountpoint.
func (m *model) Find(t *rapid.T) {
	for at, content := range m.mounted {
		node := uint64(fusesrv.RootID)
		for _, name := range append(slices.DeleteFunc(splitPath(at), func(s string) bool { return s == "" }), "f") {
			e, err := fusesrvtest.Lookup(m.c.d, node, name)
			if err != nil || e.NodeID == 0 {
				t.Fatalf("lookup of %s/f: node %d, %v", at, e.NodeID, err)
			}
			node = e.NodeID
		}
		if old, seen := m.files[node]; seen && old != content {
			t.Fatalf("node %#x was %q, is %q", node, old, content)
		}
		m.files[node] = content
	}
}

// Open opens a file that was found some time.
func (m *model) Open(t *rapid.T) {
	node, ok := m.any(t)
	if !ok {
		return
	}
	_, err := fusesrvtest.Open(m.c.d, fusesrv.OpOpen, node, 0)
	if mounted := m.isMounted(node); mounted != (err == nil) {
		t.Fatalf("open of a file of %q, mounted %v: %v", m.files[node], mounted, err)
	}
	if err == nil {
		m.open[node]++
	}
}

// Release closes one.
func (m *model) Release(t *rapid.T) {
	if node, ok := m.any(t); ok && m.open[node] > 0 {
		if _, err := m.c.d.Call(fusesrv.OpRelease, node, fusesrvtest.Args(t, fusesrv.ReleaseIn{}), 0); err != nil {
			t.Fatal(err)
		}
		m.open[node]--
	}
}

// Restart goes on in another process.
func (m *model) Restart(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "restart") != 0 {
		return
	}
	m.c.Wait()
	state := m.c.State()
	fs := mountfs.New(mountfs.Options{})
	if err := fs.Load(state, true, reopen); err != nil {
		t.Fatal(err)
	}
	m.c.d.W.Close()
	settings := *m.c.s.Settings()
	m.c = &conn{FS: fs, s: fusesrv.NewServer(fs, fusesrv.Options{})}
	m.c.s.Restore(settings)
	fs.Serve(m.c.s.Quiesce)
	m.c.d = &fusesrvtest.Direct{S: m.c.s, W: m.c.s.NewWorker()}
}

// Check reads every node ever seen: its one content, or ESTALE when neither the
// mount nor a handle is there.
func (m *model) Check(t *rapid.T) {
	for node, content := range m.files {
		b, err := fusesrvtest.Read(m.c.d, node, 0, 0, 100)
		switch alive := m.isMounted(node) || m.held(content); {
		case alive && (err != nil || string(b) != content):
			t.Fatalf("node %#x: got %q, %v, want %q", node, b, err, content)
		case !alive && err != syscall.ESTALE:
			t.Fatalf("node %#x of %q: got %q, %v, want ESTALE", node, content, b, err)
		}
	}
}

func (m *model) any(t *rapid.T) (uint64, bool) {
	if len(m.files) == 0 {
		return 0, false
	}
	nodes := make([]uint64, 0, len(m.files))
	for node := range m.files {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	return rapid.SampledFrom(nodes).Draw(t, "node"), true
}

func (m *model) isMounted(node uint64) bool {
	for _, content := range m.mounted {
		if content == m.files[node] {
			return true
		}
	}
	return false
}

func (m *model) held(content string) bool {
	for node, n := range m.open {
		if n > 0 && m.files[node] == content {
			return true
		}
	}
	return false
}

func TestNodesNameOneContentForLife(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{c: newConn(t, mountfs.Options{}), mounted: map[string]string{}, files: map[uint64]string{}, open: map[uint64]int{}}
		rt.Repeat(map[string]func(*rapid.T){
			"mount": m.Mount, "unmount": m.Unmount, "find": m.Find, "open": m.Open, "release": m.Release,
			"restart": m.Restart, "": m.Check,
		})
	})
}

// TestMountsChangeUnderLoad changes mounts while several goroutines send requests;
// it is for the race detector.
func TestMountsChangeUnderLoad(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		d := fusesrvtest.NewDirect(t, c.s)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				node := uint64(fusesrv.RootID)
				for _, name := range []string{"a", "b", "f"} {
					e, err := fusesrvtest.Lookup(d, node, name)
					if err != nil || e.NodeID == 0 {
						break
					}
					node = e.NodeID
				}
				if _, err := fusesrvtest.Open(d, fusesrv.OpOpen, node, 0); err == nil {
					_, _ = fusesrvtest.Read(d, node, 0, 0, 10)
					_, _ = d.Call(fusesrv.OpRelease, node, fusesrvtest.Args(t, fusesrv.ReleaseIn{}), 0)
				}
				_, _ = fusesrvtest.List(d, true, fusesrv.RootID, 4096)
			}
		})
	}
	var closed sync.WaitGroup
	for i := range testenv.Rounds(3000) {
		closed.Add(1)
		o := mountfs.MountOptions{Closed: closed.Done}
		if _, err := c.Mount("/a/b", &flat{content: fmt.Sprint(i), names: []string{"f"}}, o); err != nil {
			t.Fatal(err)
		}
		if err := c.Unmount("/a/b"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	closed.Wait() // every one of them, once
}

func splitPath(p string) []string { return strings.Split(p, "/") }
