package testtree

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// Make generates a tree in a temporary directory of the test and returns its
// path. It needs root unless o.Unprivileged is set.
func Make(t testing.TB, o Options) string {
	t.Helper()
	if !o.Unprivileged {
		testenv.Need(t, testenv.Root)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	if err := Generate(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Generate makes the tree described by o at dir, which must not exist yet. The
// tree's own root has mode 0755 and a fixed mtime.
func Generate(dir string, o Options) error {
	o.setDefaults()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], o.Seed)
	copy(key[8:], "vrafs testtree")
	src := rand.NewChaCha8(key)
	g := &generator{o: o, root: dir, rng: rand.New(src), bytes: src}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.pending = append(g.pending, dirTime{dir, 1_700_000_000, 123_456_789})
	g.names++
	for _, part := range []func(){
		g.makeKinds, g.makeNames, g.makeXattrs, g.makeLinks, g.makeSizes, g.makeSparse, g.makeModes,
		g.makeOwners, g.makeTimes, g.makeDuplicates, g.makeDeep, g.makeBigDir, g.makeRandom,
	} {
		if part(); g.err != nil {
			return fmt.Errorf("generate tree: %w", g.err)
		}
	}
	// Directory times last and deepest first: making a child changes its parent's.
	for i := len(g.pending) - 1; i >= 0; i-- {
		d := g.pending[i]
		g.setTime(d.path, d.sec, d.nsec)
	}
	if g.err != nil {
		return fmt.Errorf("generate tree: %w", g.err)
	}
	return nil
}

type dirTime struct {
	path string
	sec  int64
	nsec int64
}

// A generator makes one tree. The first error sticks and the rest does nothing.
type generator struct {
	o       Options
	root    string
	rng     *rand.Rand
	bytes   *rand.ChaCha8
	err     error
	names   int
	data    int64
	pending []dirTime
}

func (g *generator) path(parts ...string) string {
	return filepath.Join(append([]string{g.root}, parts...)...)
}

func (g *generator) check(err error) {
	if g.err == nil && err != nil {
		g.err = err
	}
}

// finish gives a new file its owner, mode and time, in the order in which one
// does not undo the other.
func (g *generator) finish(path string, mode uint32, uid, gid int) {
	if g.err != nil {
		return
	}
	if !g.o.Unprivileged {
		g.check(unix.Lchown(path, uid, gid))
	}
	g.check(unix.Chmod(path, mode))
	g.setTime(path, g.someTime(), g.rng.Int64N(1_000_000_000))
}

func (g *generator) someTime() int64 { return 1_000_000_000 + g.rng.Int64N(800_000_000) }

func (g *generator) setTime(path string, sec, nsec int64) {
	if g.err != nil {
		return
	}
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		g.check(&os.PathError{Op: "utimensat", Path: path, Err: err})
	}
}

func (g *generator) dir(parts ...string) string {
	p := g.path(parts...)
	if g.err != nil {
		return p
	}
	g.check(os.Mkdir(p, 0o755))
	g.names++
	g.pending = append(g.pending, dirTime{p, g.someTime(), g.rng.Int64N(1_000_000_000)})
	return p
}

// file makes a regular file of the given content with ordinary attributes.
func (g *generator) file(content []byte, parts ...string) string {
	p := g.path(parts...)
	if g.err != nil {
		return p
	}
	g.check(os.WriteFile(p, content, 0o600))
	g.names++
	g.data += int64(len(content))
	g.finish(p, 0o644, 0, 0)
	return p
}

func (g *generator) symlink(target string, parts ...string) {
	p := g.path(parts...)
	if g.err != nil {
		return
	}
	g.check(os.Symlink(target, p))
	g.names++
	if !g.o.Unprivileged {
		g.check(unix.Lchown(p, 1000, 1001))
	}
	g.setTime(p, g.someTime(), g.rng.Int64N(1_000_000_000))
}

func (g *generator) hardlink(old string, parts ...string) {
	if g.err == nil {
		g.check(os.Link(old, g.path(parts...)))
		g.names++
	}
}

func (g *generator) node(mode uint32, dev uint64, parts ...string) {
	p := g.path(parts...)
	if g.err != nil {
		return
	}
	if err := unix.Mknod(p, mode, int(dev)); err != nil {
		g.check(&os.PathError{Op: "mknod", Path: p, Err: err})
	}
	g.names++
	g.finish(p, mode&0o7777, 0, 0)
}

func (g *generator) xattr(path, name string, value []byte) {
	if g.err != nil || g.o.NoXattrs || len(value) == 0 && g.o.TarSafe {
		return
	}
	if err := unix.Lsetxattr(path, name, value, 0); err != nil {
		g.check(&os.PathError{Op: "setxattr " + name, Path: path, Err: err})
	}
}

// content is n bytes of one of three kinds: random, text-like, or random blocks
// that repeat, so that compressors and deduplication have something to do.
func (g *generator) content(n int) []byte {
	b := make([]byte, n)
	switch g.rng.IntN(3) {
	case 0:
		_, _ = g.bytes.Read(b)
	case 1:
		words := []string{"chunk ", "blob ", "bootstrap ", "digest ", "inode ", "0123456789", "\n", "the "}
		for i := 0; i < n; {
			i += copy(b[i:], words[g.rng.IntN(len(words))])
		}
	default:
		block := make([]byte, 4096)
		_, _ = g.bytes.Read(block)
		for i := 0; i < n; {
			i += copy(b[i:], block)
			block[0]++
		}
	}
	return b
}
