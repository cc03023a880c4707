package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// BenchmarkDebian measures what programs see of a Debian: on ext4, on our mount with
// the data in our cache, and on others. A round has each row once cold, with nothing
// in the kernel's caches, and once warm, on every mount in turn; ratios are to ext4
// in the same round.
func BenchmarkDebian(b *testing.B) {
	testenv.Need(b, testenv.Root, testenv.FUSE, testenv.Erofs)
	root := testtree.DebianRoot(b)
	files, err := listFiles(root)
	if err != nil {
		b.Fatal(err)
	}
	mounts := debianMounts(b, root)
	for _, m := range mounts {
		for _, warmUp := range debianRows() { // also fills our cache
			if err := warmUp.run(m.dir, files); err != nil {
				b.Fatalf("%s on %s: %v", warmUp.name, m.name, err)
			}
		}
	}
	for _, r := range debianRows() {
		cold, warm := newTimes(mounts), newTimes(mounts)
		for range rounds {
			for _, m := range mounts {
				drop(b)
				cold.add(b, m, &r, files)
				warm.add(b, m, &r, files)
			}
		}
		b.Run(r.name+"/cold", cold.report)
		b.Run(r.name+"/warm", warm.report)
	}
}

// debianMounts is the tree on every file system, ext4 first.
func debianMounts(b *testing.B, root string) []*mounted {
	b.Helper()
	zstd := testimage.Make(b, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd, Source: root})
	boot, devices := testimage.FilledCache(b, root, build.Options{})
	all := []*mounted{
		{name: "ext4", dir: root},
		startFuse(b, configure(b, zstd.Bootstrap, zstd.BlobDir)),
		{name: "erofs", dir: testimage.MountErofs(b, boot, devices)},
		startGoFuse(b, goFuseLoopback, root),
	}
	if why := testenv.Missing(testenv.Squashfuse); why != "" {
		b.Log("without squashfuse: ", why)
		return all
	}
	return append(all, startSquashfuse(b, root))
}

func startSquashfuse(b *testing.B, root string) *mounted {
	b.Helper()
	file, dir := filepath.Join(b.TempDir(), "root.squashfs"), b.TempDir()
	if out, err := exec.Command("mksquashfs", root, file, "-comp", "zstd", "-quiet", "-no-progress").CombinedOutput(); err != nil {
		b.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	return mountedBy(b, "squashfuse", dir, testenv.Program("squashfuse"), "-f", "-o", "allow_other", file, dir)
}

// Times of one row, by mount.
type times struct {
	mounts []*mounted
	of     map[*mounted][]float64 // ms
}

func newTimes(mounts []*mounted) *times {
	return &times{mounts, map[*mounted][]float64{}}
}

// add runs a row on a mount.
func (t *times) add(b *testing.B, m *mounted, r *debianRow, files *fileList) {
	b.Helper()
	begin := time.Now()
	if err := r.run(m.dir, files); err != nil {
		b.Fatalf("%s on %s: %v", r.name, m.name, err)
	}
	t.of[m] = append(t.of[m], time.Since(begin).Seconds()*1000)
}

// report gives the medians of the ratios to the first mount, and its time.
func (t *times) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // the time of the whole run says nothing
	base := t.of[t.mounts[0]]
	b.ReportMetric(median(base), t.mounts[0].name+"-ms")
	for _, m := range t.mounts[1:] {
		ratios := make([]float64, len(base))
		for i, ms := range t.of[m] {
			ratios[i] = ms / base[i]
		}
		b.ReportMetric(median(ratios), m.name+"-ratio")
	}
}

// A fileList is the regular files of a tree by path below its root.
type fileList struct{ small, large []string }

// Limits of small and large files, in bytes.
const (
	smallMost  = 64 << 10
	largeLeast = 1 << 20
)

func listFiles(root string) (*fileList, error) {
	l := &fileList{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		switch {
		case info.Size() <= smallMost:
			l.small = append(l.small, rel)
		case info.Size() >= largeLeast:
			l.large = append(l.large, rel)
		}
		return err
	})
	if err == nil && (len(l.small) < 1000 || len(l.large) == 0) {
		err = fmt.Errorf("%s: %d small files, %d large ones", root, len(l.small), len(l.large))
	}
	return l, err
}
