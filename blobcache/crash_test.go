package blobcache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

func crashSample(t testing.TB) *sample {
	return makeSample(t,
		blobSpec{id: "one", sizes: sizes(300, 5000), comp: rafs.CompressorLZ4},
		blobSpec{id: "two", sizes: sizes(100, 9000), comp: rafs.CompressorZstd, digester: rafs.DigesterSHA256, batch: 4})
}

// TestKilledProcessesLeaveNoWrongByte lets two processes read one cache directory. One
// after the other is killed at a random moment and followed by a new one. A round is a
// read of one chunk.
func TestKilledProcessesLeaveNoWrongByte(t *testing.T) {
	testenv.Long(t)
	s := crashSample(t)
	imageDir, cacheDir := writeImage(t, s), t.TempDir()
	type process struct {
		cmd *exec.Cmd
		out *os.File
	}
	start := func() process {
		cmd, out := startChild(t, childReader, imageDir, cacheDir)
		return process{cmd, out}
	}
	pair := [2]process{start(), start()}
	total, kills := testenv.Rounds(10_000), 0
	for done := 0; done < total; kills++ {
		victim := kills % 2
		n := rand.IntN(60)
		if failed := rounds(t, pair[victim].cmd, pair[victim].out, n) + rounds(t, pair[1-victim].cmd, pair[1-victim].out, n); failed > 0 {
			t.Errorf("%d reads failed", failed)
		}
		done += 2 * n
		_ = pair[victim].cmd.Process.Kill()
		_ = pair[victim].cmd.Wait()
		if kills%5 == 0 { // as the snapshotter does: the next one starts cold
			files, _ := filepath.Glob(filepath.Join(cacheDir, "*.blob.*"))
			for _, f := range files {
				_ = os.Remove(f)
			}
		}
		pair[victim] = start()
	}
	t.Logf("%d reads, %d kills", total, kills)
	newEnv(t, s, cacheDir, Options{}, nil).check(s.all())
}

// TestBitsOverGarbageAreNotBelieved lets a process set bits in the shared maps over
// data files full of garbage while two others read.
func TestBitsOverGarbageAreNotBelieved(t *testing.T) {
	testenv.Long(t)
	s := crashSample(t)
	imageDir := writeImage(t, s)
	const perDir = 200
	for range max(1, testenv.Rounds(10_000)/perDir/2) {
		cacheDir := t.TempDir()
		for _, b := range s.im.Blobs() {
			garbage := make([]byte, b.UncompressedSize)
			for i := range garbage {
				garbage[i] = byte(rand.Uint32())
			}
			if err := os.WriteFile(filepath.Join(cacheDir, b.ID+dataSuffix), garbage, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		liar, lies := startChild(t, childLiar, imageDir, cacheDir)
		rounds(t, liar, lies, 100)
		a, aOut := startChild(t, childReader, imageDir, cacheDir)
		b, bOut := startChild(t, childReader, imageDir, cacheDir)
		if failed := rounds(t, a, aOut, perDir) + rounds(t, b, bOut, perDir); failed > 0 {
			t.Errorf("%d reads failed", failed)
		}
		for _, cmd := range []*exec.Cmd{liar, a, b} {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// TestPowerCut fills a cache on a loop-mounted ext4. After each chunk, which is a
// round, the maps and proofs are forced to the device, the data are not. Then the
// device is copied as it is, the copy mounted, and everything read.
func TestPowerCut(t *testing.T) {
	testenv.Long(t)
	testenv.Need(t, testenv.Root, testenv.Loop, testenv.Ext4)
	s := crashSample(t)
	spans := s.all()
	total, lies := 0, 0
	for cut := 0; total < testenv.Rounds(10_000); cut++ {
		steps := min(len(spans), 100+rand.IntN(300))
		lies += powerCut(t, s, steps, cut%2 == 0)
		total += steps
	}
	t.Logf("%d rounds; %d of the bits on the device lay over other bytes", total, lies)
	if lies == 0 {
		t.Error("no bit reached the device before its data: the test shows nothing")
	}
}

// powerCut is one cut after so many chunks; it gives the number of bits that lied.
func powerCut(t *testing.T, s *sample, steps int, sameBoot bool) (lies int) {
	t.Helper()
	dir := t.TempDir()
	disk, mnt := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	makeDisk(t, disk)
	unmount := mountDisk(t, disk, mnt)
	e := newEnv(t, s, mnt, Options{Workers: 1}, nil)
	spans := s.all()
	for _, i := range rand.Perm(len(spans))[:steps] {
		e.check(spans[i : i+1])
		for _, b := range s.im.Blobs() {
			for _, suffix := range []string{mapSuffix, sidecarSuffix} {
				if err := syncFile(filepath.Join(mnt, b.ID+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
	}
	later := filepath.Join(dir, "later")
	if out, err := exec.Command("cp", "--sparse=always", disk, later).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	mnt2 := filepath.Join(dir, "mnt2")
	unmount2 := mountDisk(t, later, mnt2)
	lies = countLies(t, s, mnt2)
	store, err := NewStore(opener.Local(), Options{Dir: mnt2, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !sameBoot { // with the same one the device number tells the copies apart
		store.boot[3] ^= 0x40
	}
	c, err := store.Open(s.im, s.blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after := &env{sample: s, t: t, dir: mnt2, store: store, cache: c}
	after.check(spans)
	after.close()
	e.close()
	unmount2()
	unmount()
	return lies
}

// countLies counts the set bits over data that is not the chunk's.
func countLies(t *testing.T, s *sample, dir string) (lies int) {
	t.Helper()
	for i, b := range s.im.Blobs() {
		m, err := os.ReadFile(filepath.Join(dir, b.ID+mapSuffix))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, b.ID+dataSuffix))
		if err != nil {
			t.Fatal(err)
		}
		for k, sp := range s.spans[i] {
			if m[4096+k/8]&(0x80>>(k%8)) == 0 {
				continue
			}
			if end := sp.Off + uint64(sp.Len); end > uint64(len(data)) || !bytes.Equal(data[sp.Off:end], s.data[i][k]) {
				lies++
			}
		}
	}
	return lies
}

func makeDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(24 << 20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testenv.Program("mkfs.ext4"), "-q", "-F", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
}

// mountDisk mounts a disk image by a loop device, which goes with the mount.
func mountDisk(t *testing.T, disk, mnt string) (unmount func()) {
	t.Helper()
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", disk, mnt).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			_ = unix.Unmount(mnt, unix.MNT_DETACH)
		}
	}
	t.Cleanup(unmount)
	return unmount
}
