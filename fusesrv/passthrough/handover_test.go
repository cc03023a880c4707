package passthrough

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// A life of a shared directory is one program's. The next begins with succeed.
type shareLife struct {
	*fusesrvtest.Direct
	fs  *FS
	opt Options
}

func beginLife(t testing.TB, f *FS, opt Options) *shareLife {
	t.Helper()
	l := &shareLife{fusesrvtest.NewDirect(t, fusesrv.NewServer(f, fusesrv.Options{})), f, opt}
	if _, err := fusesrvtest.Init(l, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	return l
}

func firstLife(t testing.TB, dir string, opt Options) *shareLife {
	t.Helper()
	opt.Descriptors, opt.Numbers = NewDescriptors(10_000), &Numbers{}
	f, err := New(opener.Local(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return beginLife(t, f, opt)
}

// succeed ends a life, whose descriptors a copy of the state takes along, and begins the
// next with that. Only after an execve would it be the descriptors themselves.
func (l *shareLife) succeed(t testing.TB) *shareLife {
	t.Helper()
	state, _ := l.fs.State()
	s, err := decodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	again := func(fd *int32) {
		if *fd < 0 {
			return
		}
		n, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD, 0)
		if err != nil {
			t.Fatal(err)
		}
		*fd = int32(n)
	}
	again(&s.root)
	for i := range s.mounts {
		again(&s.mounts[i].fd)
	}
	for i := range s.lives {
		again(&s.lives[i].fd)
	}
	for i := range s.files {
		again(&s.files[i].fd)
	}
	s.memory = memoryWith(t, l.fs.nodes.memory.slots()-1, l.records())
	numbers := l.fs.numbers.State()
	l.fs.Close()
	if n := l.fs.fds.Used(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
	opt := l.opt
	opt.Descriptors, opt.Numbers = NewDescriptors(10_000), &Numbers{}
	if err := opt.Numbers.Load(numbers); err != nil {
		t.Fatal(err)
	}
	f, err := Resume(opener.Local(), s.encode(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return beginLife(t, f, opt)
}

// records is the memory of the nodes, as far as it was used.
func (l *shareLife) records() []byte { return l.fs.nodes.memory.b[:(l.fs.nodes.used+1)*recordSize] }

// memoryWith is a memory file with this content.
func memoryWith(t testing.TB, last uint32, content []byte) (fd int32) {
	t.Helper()
	m, err := newMemory(last)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.b, content)
	n, err := unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	return int32(n)
}

// A view is all that has to be the same in the next life.
type view struct {
	Nodes  map[uint64]string
	Files  map[uint64]string
	Mounts map[uint32]string
	Used   int
}

func (l *shareLife) view() view {
	f := l.fs
	v := view{map[uint64]string{}, map[uint64]string{}, map[uint32]string{}, f.fds.Used()}
	for slot := uint32(1); slot <= f.nodes.used; slot++ {
		rec, life := f.nodes.at(slot)
		id := rec.id.Load()
		if id == 0 {
			continue
		}
		v.Nodes[id] = fmt.Sprint(rec.identity(), rec.born, rec.lookups.Load(), rec.kind, rec.flags, rec.hkind, rec.handle[:rec.size],
			life.fd >= 0, life.pinned, life.nascent, life.maker)
	}
	for slot := uint64(1); slot <= f.files.used; slot++ {
		o := f.files.at(slot)
		if fh := o.fh.Load(); fh != 0 && fh&released == 0 {
			text := fmt.Sprint(o.local, o.memory, o.changes, o.slow.Load(), o.refs.Load(), o.gen)
			if o.dir != nil {
				text += fmt.Sprint(o.dir.node, o.dir.dev, o.dir.at.Load())
			}
			v.Files[fh] = text
		}
	}
	for number, m := range f.mounts.m {
		v.Mounts[number] = fmt.Sprint(m.fd >= 0, m.byName, m.local, m.memory, m.asked, m.uses)
	}
	return v
}

func eachKind(t *testing.T, test func(t *testing.T, opt Options)) {
	t.Run("handles", func(t *testing.T) {
		testenv.Need(t, testenv.Root)
		test(t, Options{})
	})
	t.Run("descriptors", func(t *testing.T) { test(t, Options{NoHandles: true}) })
}

// forgetAll takes every lookup back that is counted in known; nothing may be left then.
func (l *shareLife) forgetAll(t *testing.T, known map[uint64]uint64) {
	t.Helper()
	for node, n := range known {
		if n > 1 {
			if err := fusesrvtest.Forget(l, node, n-1); err != nil {
				t.Fatal(err)
			}
		}
		if _, e := l.fs.nodes.hold(node); e != 0 {
			t.Fatalf("node %#x is gone before its last lookup", node)
		} else if rec, life := l.fs.nodes.at(uint32(node & slotMask)); rec.lookups.Load() != 1 {
			t.Errorf("node %#x: %d lookups, want 1", node, rec.lookups.Load())
		} else {
			life.users--
		}
		if err := fusesrvtest.Forget(l, node, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.fs.Nodes(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
}

// TestTheNextLifeIsLikeTheFormer changes a directory at random, with a guest that looks
// up, opens and forgets, in many lives. Each begins with what the former ended with, to
// the last lookup, and everything that is known can be used.
func TestTheNextLifeIsLikeTheFormer(t *testing.T) {
	eachKind(t, func(t *testing.T, opt Options) {
		l := firstLife(t, t.TempDir(), opt)
		r := rand.New(rand.NewPCG(1, 2))
		known, files := map[uint64]uint64{}, map[uint64]uint64{} // lookups by node; node by handle
		given := map[uint64]bool{}
		for range testenv.Rounds(40) {
			for range 50 {
				name := fmt.Sprint(r.IntN(30))
				switch r.IntN(8) {
				case 0, 1:
					o, err := fusesrvtest.Create(l, fusesrv.RootID, name, unix.O_RDWR, 0o644)
					if err == nil {
						known[o.Entry.NodeID]++
						if given[o.Open.FH] {
							t.Errorf("handle %#x is given out again", o.Open.FH)
						}
						given[o.Open.FH] = true
						files[o.Open.FH] = o.Entry.NodeID
					} else if !errors.Is(err, unix.EISDIR) {
						t.Fatal(err)
					}
				case 2:
					if e, err := fusesrvtest.Mkdir(l, fusesrv.RootID, name, 0o755); err == nil {
						known[e.NodeID]++
					} else if !errors.Is(err, unix.EEXIST) {
						t.Fatal(err)
					}
				case 3, 4:
					if e, err := fusesrvtest.Lookup(l, fusesrv.RootID, name); err == nil && e.NodeID != 0 {
						known[e.NodeID]++
					}
				case 5:
					_ = fusesrvtest.Remove(l, []fusesrv.Opcode{fusesrv.OpUnlink, fusesrv.OpRmdir}[r.IntN(2)], fusesrv.RootID, name)
				case 6:
					_ = fusesrvtest.Rename(l, fusesrv.RootID, name, fusesrv.RootID, fmt.Sprint(r.IntN(30)), 0)
				case 7:
					for fh, node := range files {
						if err := fusesrvtest.Release(l, fusesrv.OpRelease, node, fh); err != nil {
							t.Fatal(err)
						}
						delete(files, fh)
						if known[node]--; known[node] == 0 {
							delete(known, node)
						}
						if err := fusesrvtest.Forget(l, node, 1); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
			}
			before := l.view()
			l = l.succeed(t)
			if d := cmp.Diff(before, l.view()); d != "" {
				t.Fatal(d)
			}
			for fh, node := range files {
				if _, err := fusesrvtest.Write(l, node, fusesrv.WriteIn{FH: fh}, []byte("text")); err != nil {
					t.Fatal(err)
				}
			}
			for node := range known {
				if _, err := fusesrvtest.Getattr(l, node); err != nil {
					t.Fatalf("node %#x: %v", node, err)
				}
			}
		}
		for fh, node := range files {
			if err := fusesrvtest.Release(l, fusesrv.OpRelease, node, fh); err != nil {
				t.Fatal(err)
			}
		}
		l.forgetAll(t, known)
		l.fs.Close()
		if n := l.fs.fds.Used(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
}

// TestDirectoriesAreReadOn from where the former life had come to: each name is seen
// once.
func TestDirectoriesAreReadOn(t *testing.T) {
	eachKind(t, func(t *testing.T, opt Options) {
		dir, want := t.TempDir(), []string{}
		for i := range 2000 {
			want = append(want, fmt.Sprint("a-name-", i))
			if err := os.WriteFile(filepath.Join(dir, want[i]), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l := firstLife(t, dir, opt)
		o, err := fusesrvtest.Open(l, fusesrv.OpOpendir, fusesrv.RootID, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for off := uint64(0); ; {
			list, err := fusesrvtest.Readdir(l, false, fusesrv.RootID, o.FH, off, 4096)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				break
			}
			for _, e := range list {
				off = e.Next
				if e.Name != "." && e.Name != ".." {
					got = append(got, e.Name)
				}
			}
			l = l.succeed(t)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d names, want %d", len(got), len(want))
		}
		l.fs.Close()
	})
}

// TestFilesWithoutANameStayOpen, and a copy of overlayfs's is one in the next life too.
func TestFilesWithoutANameStayOpen(t *testing.T) {
	testenv.Need(t, testenv.Root)
	eachKind(t, func(t *testing.T, opt Options) {
		dir := t.TempDir()
		l := firstLife(t, dir, opt)
		gone, err := fusesrvtest.Create(l, fusesrv.RootID, "gone", unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := fusesrvtest.Remove(l, fusesrv.OpUnlink, fusesrv.RootID, "gone"); err != nil {
			t.Fatal(err)
		}
		copied, err := fusesrvtest.Create(l, fusesrv.RootID, "copied", unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fusesrvtest.Setattr(l, copied.Entry.NodeID, fusesrv.SetattrIn{Valid: fusesrv.FattrMode, Mode: 0o4755}); err != nil {
			t.Fatal(err)
		}
		l = l.succeed(t)
		if _, err := fusesrvtest.Write(l, gone.Entry.NodeID, fusesrv.WriteIn{FH: gone.Open.FH}, []byte("text")); err != nil {
			t.Error(err)
		}
		again, err := fusesrvtest.Open(l, fusesrv.OpOpen, gone.Entry.NodeID, unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := fusesrvtest.Read(l, gone.Entry.NodeID, again.FH, 0, 100); err != nil || string(b) != "text" {
			t.Errorf("%q, %v", b, err)
		}
		a, err := fusesrvtest.Setattr(l, copied.Entry.NodeID, fusesrv.SetattrIn{Valid: fusesrv.FattrUID, UID: 7})
		if err != nil || a.Attr.Mode&0o7777 != 0o4755 || a.Attr.UID != 7 {
			t.Errorf("mode %o, owner %d, %v", a.Attr.Mode, a.Attr.UID, err)
		}
		l.fs.Close()
	})
}

// TestMountsBelowAreHandedOver: a file system mounted below the directory, which is taken
// away in the next life, and stays as long as the guest knows something of it.
func TestMountsBelowAreHandedOver(t *testing.T) {
	testenv.Need(t, testenv.Root)
	eachKind(t, func(t *testing.T, opt Options) {
		dir := t.TempDir()
		at := filepath.Join(dir, "volume")
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		l := firstLife(t, dir, opt)
		volume, err := fusesrvtest.Lookup(l, fusesrv.RootID, "volume")
		if err != nil {
			t.Fatal(err)
		}
		sub, err := fusesrvtest.Mkdir(l, volume.NodeID, "sub", 0o755)
		if err != nil {
			t.Fatal(err)
		}
		l = l.succeed(t)
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		if e, err := fusesrvtest.Mkdir(l, sub.NodeID, "below", 0o755); err != nil || e.Attr.Ino>>inoBits != sub.Attr.Ino>>inoBits {
			t.Errorf("inode %#x below inode %#x, %v", e.Attr.Ino, sub.Attr.Ino, err)
		}
		l = l.succeed(t)
		if e, err := fusesrvtest.Lookup(l, sub.NodeID, "below"); err != nil || e.NodeID == 0 {
			t.Errorf("%+v, %v", e, err)
		}
		if n := len(l.fs.mounts.m); n != 2 {
			t.Errorf("%d mounts", n)
		}
		l.fs.Destroy()
		if got := slices.Collect(maps.Keys(l.fs.mounts.m)); len(got) != 1 || got[0] != l.fs.rootKey.mount {
			t.Errorf("mounts %v", got)
		}
		l.fs.Close()
	})
}

// TestTheNextLifeKnowsWhatIsInMemory: what is served at once stays so.
func TestTheNextLifeKnowsWhatIsInMemory(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	eachKind(t, func(t *testing.T, opt Options) {
		l := firstLife(t, dir, opt)
		open := func(name string) bool {
			t.Helper()
			o, err := fusesrvtest.Create(l, fusesrv.RootID, name, unix.O_RDWR, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			return l.fs.files.at(o.Open.FH & fileMask).memory
		}
		if !open("before") {
			t.Error("a file on tmpfs is not known as one")
		}
		before := l.view()
		l = l.succeed(t)
		if d := cmp.Diff(before, l.view()); d != "" {
			t.Error(d)
		}
		if !open("after") {
			t.Error("the next life does not know that the mount is in memory")
		}
		l.fs.Close()
	})
}

// TestAStateOfAnotherDirectoryIsRefused, and its descriptors are closed.
func TestAStateOfAnotherDirectoryIsRefused(t *testing.T) {
	l := firstLife(t, t.TempDir(), Options{NoHandles: true})
	defer l.fs.Close()
	root, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := l.fs.State()
	for name, spoil := range map[string]func(s *savedState){
		"directory": func(*savedState) {},
		"memory":    func(s *savedState) { s.memory = s.root },
		"taken":     func(s *savedState) { s.taken = maxSlots - 1 },
		"mounts":    func(s *savedState) { s.mounts = nil },
	} {
		s, err := decodeState(state)
		if err != nil {
			t.Fatal(err)
		}
		if s.root = int32(root); name != "directory" {
			s.root = int32(l.fs.rootFD)
		}
		n, err := unix.FcntlInt(uintptr(s.root), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.root, s.memory = int32(n), memoryWith(t, l.fs.nodes.memory.slots()-1, l.records())
		for i := range s.mounts {
			s.mounts[i].fd = -1
		}
		memory := s.memory
		spoil(s)
		if f, err := Resume(opener.Local(), s.encode(), Options{}); err == nil {
			t.Errorf("%s: gone on with", name)
			f.Close()
		}
		if _, err := unix.FcntlInt(uintptr(s.root), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("%s: the directory is open still: %v", name, err)
		}
		if memory != s.memory {
			_ = unix.Close(int(memory))
		}
	}
	_ = unix.Close(root)
}

// TestStatesAreAskedForUnderLoad: each can be read, and asking changes nothing.
func TestStatesAreAskedForUnderLoad(t *testing.T) {
	eachKind(t, func(t *testing.T, opt Options) {
		l := firstLife(t, t.TempDir(), opt)
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < 3000 && err == nil; i++ {
				var o fusesrvtest.Created
				if o, err = fusesrvtest.Create(l, fusesrv.RootID, "name", unix.O_RDWR, 0o600); err != nil {
					break
				}
				var list fusesrv.OpenOut
				if list, err = fusesrvtest.Open(l, fusesrv.OpOpendir, fusesrv.RootID, 0); err == nil {
					_, err = fusesrvtest.Readdir(l, false, fusesrv.RootID, list.FH, 0, 4096)
				}
				err = errors.Join(err, fusesrvtest.Remove(l, fusesrv.OpUnlink, fusesrv.RootID, "name"),
					fusesrvtest.Release(l, fusesrv.OpReleasedir, fusesrv.RootID, list.FH),
					fusesrvtest.Release(l, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH), fusesrvtest.Forget(l, o.Entry.NodeID, 1))
			}
			done <- err
		}()
		for asked := 0; ; asked++ {
			state, _ := l.fs.State()
			if err := errors.Join(CheckState(state), new(Numbers).Load(l.fs.numbers.State())); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if err != nil || asked == 0 {
					t.Errorf("asked %d times: %v", asked, err)
				}
				if n := l.fs.Nodes(); n != 0 {
					t.Errorf("%d nodes are left", n)
				}
				l.fs.Close()
				if n := l.fs.fds.Used(); n != 0 {
					t.Errorf("%d descriptors are left", n)
				}
				return
			default:
			}
		}
	})
}

// TestAnotherProcessMayNotGoOn: what one does that has the state and copies of the
// descriptors changes nothing for who wrote it, be it to use everything or to fail.
func TestAnotherProcessMayNotGoOn(t *testing.T) {
	eachKind(t, func(t *testing.T, opt Options) {
		l := firstLife(t, t.TempDir(), opt)
		var made []fusesrvtest.Created
		for i := range 20 {
			o, err := fusesrvtest.Create(l, fusesrv.RootID, fmt.Sprint(i), unix.O_RDWR, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, o)
		}
		before, records := l.view(), slices.Clone(l.records())
		state, fds := l.fs.State()
		lost := errors.New("lost on the way")
		for _, missing := range []int{0, 1, len(fds) - 1, len(fds)} {
			another, n := opt, 0
			another.Descriptors, another.Numbers = NewDescriptors(10_000), &Numbers{}
			another.Descriptor = func(fd int) (int, error) {
				if n++; n > missing {
					return -1, lost
				}
				return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			}
			open := descriptorsNow(t)
			f, err := Resume(opener.Local(), state, another)
			if missing < len(fds) {
				if now := descriptorsNow(t); !errors.Is(err, lost) || now != open {
					t.Errorf("without descriptor %d: %v, %d descriptors, before %d", missing, err, now, open)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			other := beginLife(t, f, another)
			if d := cmp.Diff(before, other.view()); d != "" {
				t.Error(d)
			}
			for i, o := range made {
				if err := fusesrvtest.Release(other, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := fusesrvtest.Forget(other, o.Entry.NodeID, 1); err != nil {
						t.Error(err)
					}
				}
				if _, err := fusesrvtest.Mkdir(other, fusesrv.RootID, fmt.Sprint("other-", i), 0o755); err != nil {
					t.Error(err)
				}
			}
			f.Close()
			if now := descriptorsNow(t); now != open {
				t.Errorf("%d descriptors, before %d", now, open)
			}
		}
		if d := cmp.Diff(before, l.view()); d != "" || !slices.Equal(records, l.records()) {
			t.Errorf("the former sees another table: %s", d)
		}
		known := map[uint64]uint64{}
		for _, o := range made {
			if _, err := fusesrvtest.Write(l, o.Entry.NodeID, fusesrv.WriteIn{FH: o.Open.FH}, []byte("text")); err != nil {
				t.Error(err)
			}
			if err := fusesrvtest.Release(l, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH); err != nil {
				t.Error(err)
			}
			known[o.Entry.NodeID]++
		}
		l.forgetAll(t, known)
		l.fs.Close()
	})
}

// descriptorsNow is how many descriptors this process has.
func descriptorsNow(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
