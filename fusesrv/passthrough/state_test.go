package passthrough

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/tlv"
)

func sampleState() *savedState {
	return &savedState{taken: 9, memory: 5, root: 6, generation: 3,
		mounts: []savedMount{{number: 7, fd: 8, flags: mountByName | mountLocal | mountAsked | mountMemory}},
		lives:  []savedLife{{slot: 2, fd: 10, maker: 11, pinned: true, nascent: hasMode}},
		files:  []savedFile{{fh: 3<<fileBits | 1, node: 13, dev: 14, at: 15, fd: 16, flags: fileIsDir | fileChanges | fileLocal | fileSlow | fileMemory}}}
}

func sampleNumbers() *Numbers {
	n := &Numbers{}
	n.of(1, 2)
	n.of(3, 1<<50)
	return n
}

// The golden states are what programs of other versions write and read.
const (
	goldenState = "7672616673706173" + "0100" + "0100" + // magic, version, least reader
		"0180" + "08000000" + "0100000000000000" + // layout of records
		"0280" + "08000000" + "0900000000000000" + // slots taken
		"0380" + "08000000" + "0500000000000000" + // memory
		"0480" + "08000000" + "0600000000000000" + // root
		"0580" + "08000000" + "0300000000000000" + // generation of files
		"0680" + "0c000000" + "07000000" + "08000000" + "0f000000" + // a mount
		"0780" + "10000000" + "02000000" + "0a000000" + "0b000000" + "01020000" + // a life
		"0880" + "28000000" + "0100300000000000" + "0d00000000000000" + "0e00000000000000" + "0f00000000000000" + "10000000" + "1f000000"
	goldenNumbers = "767261667369" + "6e6f" + "0100" + "0100" +
		"0180" + "08000000" + "0100000000000000" + // a device
		"0280" + "10000000" + "0300000000000000" + "0000000000000400" // an inode
)

func TestStatesKeepTheirForm(t *testing.T) {
	for want, got := range map[string][]byte{goldenState: sampleState().encode(), goldenNumbers: sampleNumbers().State()} {
		if got := hex.EncodeToString(got); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestGoldenStateHasEveryField: what is added to the state must be added to it.
func TestGoldenStateHasEveryField(t *testing.T) {
	s := sampleState()
	for _, sample := range []any{*s, s.mounts[0], s.lives[0], s.files[0]} {
		v := reflect.ValueOf(sample)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%v.%s is not part of the golden state", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestStatesReadBack(t *testing.T) {
	again, err := decodeState(sampleState().encode())
	if err != nil || !reflect.DeepEqual(again, sampleState()) {
		t.Errorf("%+v, %v", again, err)
	}
	// Of a newer version that knows more flags.
	newer := sampleState()
	newer.mounts[0].flags, newer.files[0].flags = ^uint32(0), ^uint32(0)
	if again, err = decodeState(newer.encode()); err != nil || !reflect.DeepEqual(again, sampleState()) {
		t.Errorf("%+v, %v", again, err)
	}
	n, want := &Numbers{}, sampleNumbers()
	if err := n.Load(want.State()); err != nil {
		t.Fatal(err)
	}
	for _, key := range [][2]uint64{{1, 2}, {1, 3}, {3, 1 << 50}, {4, 1 << 51}, {5, 6}} {
		if got, want := n.of(key[0], key[1]), want.of(key[0], key[1]); got != want {
			t.Errorf("%v: %#x, want %#x", key, got, want)
		}
	}
}

// TestBadStatesAreRefused with the field that is wrong.
func TestBadStatesAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(s *savedState)
		want  string
	}{
		"taken":      {func(s *savedState) { s.taken = maxSlots }, "record 0x8002"},
		"generation": {func(s *savedState) { s.generation = maxFileGen + 1 }, "record 0x8005"},
		"mount_fd":   {func(s *savedState) { s.mounts[0].fd = -2 }, "mount 7"},
		"root":       {func(s *savedState) { s.lives[0].slot = rootID }, "slot 1"},
		"slot":       {func(s *savedState) { s.lives[0].slot = maxSlots }, "slot 4194304"},
		"nascent":    {func(s *savedState) { s.lives[0].nascent = hasMode + 1 }, "slot 2"},
		"handle":     {func(s *savedState) { s.files[0].fh = 1 << fileBits }, "file handle 0x100000"},
		"released":   {func(s *savedState) { s.files[0].fh |= released }, "file handle 0x8000000000300001"},
		"file_fd":    {func(s *savedState) { s.files[0].fd = -1 }, "file handle"},
	} {
		s := sampleState()
		tt.spoil(s)
		if err := CheckState(s.encode()); !errors.Is(err, tlv.ErrFormat) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	layout := sampleState().encode()
	layout[slices.Index(layout[12:], 8)+12+4]++
	if err := CheckState(layout); !errors.Is(err, tlv.ErrNewer) {
		t.Errorf("another layout of nodes: %v", err)
	}
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	e.Uint(tagLayout, recordLayout)
	if err := CheckState(e.Finish()); !errors.Is(err, tlv.ErrFormat) {
		t.Errorf("most of it is missing: %v", err)
	}
	e = tlv.Start(stateMagic, stateVersion, stateReader)
	e.Uint(99|tlv.Required, 1)
	if err := CheckState(e.Finish()); !errors.Is(err, tlv.ErrNewer) {
		t.Errorf("of a newer version: %v", err)
	}
}

// FuzzState: any state, and any memory of nodes, is refused or gone on with. Whatever is
// asked for then does no harm.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	l := firstLife(f, dir, Options{NoHandles: true})
	state, _ := l.fs.State()
	table := slices.Clone(l.fs.nodes.memory.b[:4*recordSize])
	l.fs.Close()
	f.Add(sampleState().encode(), table, sampleNumbers().State())
	f.Add(state, table, []byte(numbersMagic))
	f.Fuzz(func(t *testing.T, state, table, numbers []byte) {
		n := &Numbers{}
		if n.Load(numbers) == nil {
			again := &Numbers{}
			if err := again.Load(n.State()); err != nil || !reflect.DeepEqual(again.wide, n.wide) {
				t.Errorf("%v becomes %v, %v", n.wide, again.wide, err)
			}
			n.of(1, 1)
		}
		s, err := decodeState(state)
		if err != nil {
			return
		}
		again, err := decodeState(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v becomes %+v, %v", s, again, err)
		}
		resumeSpoiled(t, dir, s, table)
	})
}

// resumeSpoiled goes on with a state whose descriptors are made ones of ours.
func resumeSpoiled(t *testing.T, dir string, s *savedState, table []byte) {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// What the memory can't say right by accident: the first node, and its mount.
	var st unix.Statx_t
	c := candidate{fd: -1, handle: &fileHandle{}}
	if e := fstatx(root, &st); e != 0 {
		t.Fatal(e)
	}
	c.describe(&st)
	s.root, s.memory = int32(root), memoryWith(t, 2*chunkSize-1, table)
	m, err := mapMemory(int(s.memory))
	if err != nil {
		t.Fatal(err)
	}
	rec := &records(m.b)[rootID]
	rec.id.Store(rootID)
	rec.gen, rec.size, rec.mount, rec.dev, rec.ino = 0, 0, c.mount, c.dev, c.ino
	_ = unix.Munmap(m.b)
	s.taken = min(s.taken, 2*chunkSize-2)
	s.mounts = append(s.mounts[:min(len(s.mounts), 8)], savedMount{number: c.mount, fd: -1})
	for i := range s.mounts {
		s.mounts[i].fd = -1
	}
	for i := range s.lives {
		s.lives[i].fd = -1
	}
	s.files = s.files[:min(len(s.files), 8)]
	for i := range s.files {
		file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.files[i].fd = int32(file)
		s.files[i].fh &^= 0xff << 12 // not so many slots
		s.files[i].fh |= 1
	}
	f, err := Resume(opener.Local(), s.encode(), Options{NoHandles: true, Numbers: &Numbers{}, Descriptors: NewDescriptors(1000)})
	if err != nil {
		t.Fatal(err)
	}
	for slot := range uint32(2 * chunkSize) {
		if rec, _ := f.nodes.at(slot); rec != nil {
			if h, e := f.hold(rec.id.Load()); e == 0 {
				f.drop(&h)
			}
		}
	}
	if f.nodes.put(&c); f.Nodes() < 0 {
		t.Errorf("%d nodes", f.Nodes())
	}
	f.Close()
	if n := f.Nodes(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	if n := f.fds.Used(); n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
}
