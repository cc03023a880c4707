package mountfs_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/tlv"
)

var update = flag.Bool("update", false, "rewrite the golden state and the fuzz seeds")

// reopen mounts what a state had mounted again, by its identity.
func reopen(m mountfs.SavedMount) (mountfs.Mountable, mountfs.MountOptions, error) {
	return &flat{content: m.Identity, names: []string{"f"}}, mountfs.MountOptions{Identity: m.Identity, Extra: m.Extra}, nil
}

// loaded returns a connection that goes on from a state, INIT included.
func loaded(t testing.TB, state []byte, exact bool) *conn {
	t.Helper()
	c := &conn{FS: mountfs.New(mountfs.Options{})}
	if err := c.Load(state, exact, reopen); err != nil {
		t.Fatal(err)
	}
	c.s = fusesrv.NewServer(c.FS, fusesrv.Options{})
	c.s.Restore(fusesrv.Settings{Major: 7, Minor: 45})
	c.Serve(c.s.Quiesce)
	c.d = fusesrvtest.NewDirect(t, c.s)
	t.Cleanup(c.Wait)
	return c
}

func TestGuestGoesOnAfterLoad(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	c.mount(t, "/", "root")
	c.mount(t, "/rafs/gone/lowerdir", "gone")
	c.mount(t, "/rafs/one/lowerdir", "one")
	gone, one := c.lookup(t, "rafs", "gone", "lowerdir", "f").NodeID, c.lookup(t, "rafs", "one", "lowerdir", "f").NodeID
	if _, err := fusesrvtest.Open(c.d, fusesrv.OpOpen, gone, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Unmount("/rafs/gone/lowerdir"); err != nil {
		t.Fatal(err)
	}
	dir := c.lookup(t, "rafs", "one").NodeID

	for _, exact := range []bool{true, false} {
		b := loaded(t, c.State(), exact)
		for node, want := range map[uint64]string{gone: "gone", one: "one", 2: "root"} {
			if got, err := fusesrvtest.Read(b.d, node, 0, 0, 100); err != nil || string(got) != want {
				t.Errorf("exact %v: node %#x: got %q, %v, want %q", exact, node, got, err, want)
			}
		}
		if e := b.lookup(t, "rafs", "one"); e.NodeID != dir {
			t.Errorf("exact %v: a directory's node is %#x, was %#x", exact, e.NodeID, dir)
		}
		release := fusesrvtest.Args(t, fusesrv.ReleaseIn{})
		if _, err := b.d.Call(fusesrv.OpRelease, gone, release, 0); err != nil {
			t.Fatal(err)
		}
		_, err := fusesrvtest.Getattr(b.d, gone)
		if (err != nil) != exact {
			t.Errorf("exact %v: after the last close that is known of: %v", exact, err)
		}
		if m := b.mount(t, "/new", "new"); m.Number <= 3 {
			t.Errorf("exact %v: number %d was given out before", exact, m.Number)
		}
		if !exact {
			continue
		}
		if err := b.Unmount("/"); err != nil {
			t.Fatal(err)
		}
		if m := b.mount(t, "/", "other root"); m.Number == 0 {
			t.Error("number 0 was given out before")
		}
	}
}

func TestLoadAdoptsWhatIsMounted(t *testing.T) {
	a := newConn(t, mountfs.Options{})
	a.mount(t, "/first", "first")
	a.mount(t, "/x", "x")
	node := a.lookup(t, "x", "f").NodeID
	b := newConn(t, mountfs.Options{})
	b.mount(t, "/x", "x")
	b.mount(t, "/first", "first")
	b.mount(t, "/extra", "extra")
	if err := b.Load(a.State(), true, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := fusesrvtest.Read(b.d, node, 0, 0, 100); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v, want x", got, err)
	}
	if e := b.lookup(t, "extra", "f"); e.NodeID == 0 || e.NodeID>>40 <= node>>40 {
		t.Errorf("got node %#x in what only the new process has", e.NodeID)
	}
}

func TestLoadRefusesAndChangesNothing(t *testing.T) {
	a := newConn(t, mountfs.Options{})
	a.mount(t, "/x", "x")
	good := a.State()
	record := func(tag tlv.Tag, p []byte) []byte {
		e := tlv.Start("vrafsmfs", 1, 1)
		e.Bytes(tag, p)
		return e.Finish()[12:]
	}
	tests := []struct {
		name  string
		state []byte
		want  error
	}{
		{"no state", nil, tlv.ErrFormat},
		{"cut", good[:len(good)-3], tlv.ErrFormat},
		{"newer reader", tlv.Start("vrafsmfs", 2, 2).Finish(), tlv.ErrNewer},
		{"unknown required record", append(bytes.Clone(good), record(77|tlv.Required, nil)...), tlv.ErrNewer},
		{"content that is not here", good, mountfs.ErrState},
		{"twice the same mount", append(bytes.Clone(good), good[len(good)-lastRecord(good):]...), mountfs.ErrState},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newConn(t, mountfs.Options{})
			b.mount(t, "/x", "something else")
			before := b.State()
			if err := b.Load(tt.state, true, nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !bytes.Equal(b.State(), before) {
				t.Error("something has changed")
			}
		})
	}
	b := newConn(t, mountfs.Options{})
	if err := b.Load(append(bytes.Clone(good), record(78, []byte("of a later version"))...), true, reopen); err != nil {
		t.Errorf("unknown optional record: %v", err)
	}
}

// lastRecord returns the length of a state's last record, which is a mount.
func lastRecord(state []byte) int {
	p := state[12:]
	for {
		n := 6 + int(uint32(p[2])|uint32(p[3])<<8|uint32(p[4])<<16)
		if n == len(p) {
			return n
		}
		p = p[n:]
	}
}

// TestGoldenState keeps the form of version 1: every later version reads it.
func TestGoldenState(t *testing.T) {
	golden := filepath.Join("testdata", "state-1.hex")
	if *update {
		c := newConn(t, mountfs.Options{})
		c.mount(t, "/rafs", "one") // one directory, so that the order is fixed
		text := hex.Dump(c.State())
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	c := loaded(t, undump(t, string(text)), true)
	if got, err := fusesrvtest.Read(c.d, 2<<40|2, 0, 0, 10); err != nil || string(got) != "one" {
		t.Errorf("got %q, %v, want one", got, err)
	}
	if m := c.mount(t, "/next", "next"); m.Number != 3 {
		t.Errorf("got number %d, want 3", m.Number)
	}
}

// undump reverses hex.Dump.
func undump(t *testing.T, text string) (p []byte) {
	t.Helper()
	for line := range strings.Lines(text) {
		for _, word := range strings.Fields(line[9:min(len(line), 58)]) {
			v, err := strconv.ParseUint(word, 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			p = append(p, byte(v))
		}
	}
	return p
}

func FuzzLoad(f *testing.F) {
	c := newConn(f, mountfs.Options{})
	c.mount(f, "/", "root")
	c.mount(f, "/a/b", "b")
	if *update {
		dir := filepath.Join("testdata", "fuzz", "FuzzLoad")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			f.Fatal(err)
		}
		text := "go test fuzz v1\n[]byte(" + strconv.Quote(string(c.State())) + ")\n"
		if err := os.WriteFile(filepath.Join(dir, "two-mounts"), []byte(text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		fs := mountfs.New(mountfs.Options{})
		if fs.Load(state, true, reopen) != nil {
			return
		}
		again := mountfs.New(mountfs.Options{})
		if err := again.Load(fs.State(), true, reopen); err != nil {
			t.Fatalf("a loaded state does not load again: %v", err)
		}
		if got, want := again.Mounts(), fs.Mounts(); len(got) != len(want) {
			t.Errorf("got %d mounts, want %d", len(got), len(want))
		}
	})
}
