package rafs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// mountModel writes a v6 image with empty devices and mounts it with the kernel.
func mountModel(t testing.TB, data []byte, blobs []rafs.Blob) string {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "image.boot")
	if err := os.WriteFile(boot, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var devices []string
	for i, b := range blobs {
		dev := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(dev, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(dev, int64(max(b.UncompressedSize, rafs.V6Align))); err != nil {
			t.Fatal(err)
		}
		devices = append(devices, dev)
	}
	return testimage.MountErofs(t, boot, devices)
}

// TestKernelAgreesWithTheReader mounts images of random trees with Linux's EROFS:
// compact and extended inodes, plain and inline data, shared attributes, both
// block sizes. Every inode must look the same.
func TestKernelAgreesWithTheReader(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			m := randomModel(r, 20+r.IntN(300), uint8(12+r.IntN(4)))
			if seed%4 == 3 {
				m.blockBits = rafs.V6BlkSzBitsTarfs
			}
			data := m.v6()
			im := open(t, data, "")
			root := mountModel(t, data, im.Blobs())
			for _, e := range walk(t, im) {
				compareWithKernel(t, filepath.Join(root, e.path), &e.inode)
			}
		})
	}
}

func compareWithKernel(t *testing.T, path string, n *rafs.Inode) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	a := n.Attr()
	got := rafs.Attr{
		Ino: rafs.Ino(st.Ino), Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink),
		Size: uint64(st.Size), Blocks: a.Blocks, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec),
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	if n.IsDevice() {
		got.Rdev = minor&0xff | major<<8 | minor&^0xff<<12
	}
	if got != a {
		t.Fatalf("%s: the kernel has %+v, we have %+v", path, got, a)
	}
	if n.IsSymlink() {
		target, err := n.Symlink()
		if want, kerr := os.Readlink(path); err != nil || kerr != nil || want != string(target) {
			t.Fatalf("%s: the kernel has target %q, %v, we have %q, %v", path, want, kerr, target, err)
		}
		return
	}
	compareXattrs(t, path, n)
}

func compareXattrs(t *testing.T, path string, n *rafs.Inode) {
	t.Helper()
	list := make([]byte, 1<<16)
	size, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	ours, err := n.AppendXattrNames(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sortedNames(ours) {
		value, ok, err := n.Xattr(name)
		if !ok || err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		// The kernel parses ACLs and capabilities, and the model's are no valid ones:
		// it gives no user attribute where it can't read the ACL.
		user := bytes.HasPrefix(name, []byte("user.")) && (n.IsRegular() || n.IsDir()) && !bytes.Contains(ours, []byte("posix_acl_access"))
		if !user && !bytes.HasPrefix(name, []byte("trusted.")) {
			continue
		}
		got := make([]byte, 1<<16)
		k, err := unix.Lgetxattr(path, string(name), got)
		if err != nil || !bytes.Equal(got[:k], value) {
			t.Fatalf("%s: the kernel has %s = %q, %v, we have %q", path, name, got[:max(k, 0)], err, value)
		}
	}
	for _, name := range sortedNames(list[:size]) {
		if !slices.ContainsFunc(sortedNames(ours), func(o []byte) bool { return bytes.Equal(o, name) }) {
			t.Fatalf("%s: only the kernel has %s", path, name)
		}
	}
}

func sortedNames(list []byte) [][]byte {
	names := bytes.Split(bytes.TrimSuffix(list, []byte{0}), []byte{0})
	names = slices.DeleteFunc(names, func(n []byte) bool { return len(n) == 0 })
	slices.SortFunc(names, bytes.Compare)
	return names
}
