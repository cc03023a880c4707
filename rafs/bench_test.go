package rafs_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

const (
	benchDirs  = 1000
	benchFiles = 1000 // in each
	benchNames = benchDirs*(benchFiles+1) + 1
)

// million writes an image of a million files of one chunk each, in directories of
// a thousand.
func million() *model {
	m := &model{
		root:      &node{mode: rafs.ModeDir | 0o755},
		chunkBits: 12, blockBits: 12,
		blobs: []modelBlob{{id: strings.Repeat("b", 64)}},
	}
	for d := range benchDirs {
		dir := &node{name: fmt.Sprintf("directory-%04d", d), mode: rafs.ModeDir | 0o755}
		for f := range benchFiles {
			n := &node{name: benchName(f), mode: rafs.ModeRegular | 0o644, mtime: 1}
			m.addFile(n, 0, 100)
			dir.children = append(dir.children, n)
		}
		m.root.children = append(m.root.children, dir)
	}
	m.finish()
	return m
}

func benchName(f int) string { return fmt.Sprintf("some-file-name-%06d.txt", f) }

var millionImages = sync.OnceValue(func() map[rafs.Version][]byte {
	m := million()
	return map[rafs.Version][]byte{rafs.V5: m.v5(), rafs.V6: m.v6()}
})

func openBench(b *testing.B, v rafs.Version) *rafs.Image {
	b.Helper()
	im, err := rafs.Open(millionImages()[v], rafs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return im
}

var versions = []rafs.Version{rafs.V5, rafs.V6}

// BenchmarkOpen opens an image of ten files and one of a million: the time must
// be the same.
func BenchmarkOpen(b *testing.B) {
	small := bigDir(10)
	for _, v := range versions {
		images := map[string][]byte{"10": small.v5(), "1000000": nil}
		if v == rafs.V6 {
			images["10"] = small.v6()
		}
		images["1000000"] = millionImages()[v]
		for _, files := range []string{"10", "1000000"} {
			b.Run(fmt.Sprintf("v%d/files=%s", v, files), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := rafs.Open(images[files], rafs.Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// perOp is the time of one operation of a benchmark that has run.
func perOp(b *testing.B) float64 { return float64(b.Elapsed().Nanoseconds()) / float64(b.N) }

// reportRatio gives the time as a multiple of a peer's from the same run, if that
// could run.
func reportRatio(b *testing.B, peer float64) {
	b.Helper()
	if peer > 0 {
		b.ReportMetric(perOp(b)/peer, "x-erofs")
	}
}

// BenchmarkLookup finds random files of a million by two names each and reads
// their attributes; the kernel does the same in lstat, system call included.
func BenchmarkLookup(b *testing.B) {
	var peer float64
	b.Run("erofs", func(b *testing.B) {
		root := mountBench(b)
		paths := benchPaths()
		i := 0
		for b.Loop() {
			p := &paths[i%len(paths)]
			i++
			var st unix.Stat_t
			if err := unix.Lstat(root+"/"+string(p[0])+"/"+string(p[1]), &st); err != nil {
				b.Fatal(err)
			}
		}
		peer = perOp(b)
	})
	for _, v := range versions {
		b.Run(fmt.Sprintf("v%d", v), func(b *testing.B) {
			im := openBench(b, v)
			root, err := im.Inode(im.Root())
			if err != nil {
				b.Fatal(err)
			}
			paths := benchPaths()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p := &paths[i%len(paths)]
				i++
				if _, err := lookupTwo(im, &root, p); err != nil {
					b.Fatal(err)
				}
			}
			reportRatio(b, peer)
		})
	}
}

func lookupTwo(im *rafs.Image, root *rafs.Inode, p *[2][]byte) (rafs.Attr, error) {
	ino, err := root.Lookup(p[0])
	if err != nil {
		return rafs.Attr{}, err
	}
	dir, err := im.Inode(ino)
	if err != nil {
		return rafs.Attr{}, err
	}
	if ino, err = dir.Lookup(p[1]); err != nil {
		return rafs.Attr{}, err
	}
	n, err := im.Inode(ino)
	if err != nil {
		return rafs.Attr{}, err
	}
	return n.Attr(), nil
}

// benchPaths are random paths of the million, as pairs of names.
func benchPaths() [][2][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	paths := make([][2][]byte, 1<<16)
	for i := range paths {
		paths[i] = [2][]byte{fmt.Appendf(nil, "directory-%04d", r.IntN(benchDirs)), []byte(benchName(r.IntN(benchFiles)))}
	}
	return paths
}

// mountBench mounts the million with the kernel's driver and empties its caches.
func mountBench(b *testing.B) string {
	b.Helper()
	im := openBench(b, rafs.V6)
	root := mountModel(b, millionImages()[rafs.V6], im.Blobs())
	dropInodes(b)
	return root
}

// dropInodes empties the kernel's caches of names and inodes, not of pages.
func dropInodes(b *testing.B) {
	b.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWalk lists a million files with their attributes: the kernel by readdir
// and lstat, with empty inode caches and with full ones, ours over the image. The
// ratio is to the warm kernel.
func BenchmarkWalk(b *testing.B) {
	var peer float64
	for _, caches := range []string{"cold", "warm"} {
		b.Run("erofs_"+caches, func(b *testing.B) {
			root := mountBench(b)
			walkKernel(b, root)
			for b.Loop() {
				if caches == "cold" {
					b.StopTimer()
					dropInodes(b)
					b.StartTimer()
				}
				walkKernel(b, root)
			}
			peer = perOp(b)
			b.ReportMetric(benchNames/b.Elapsed().Seconds()*float64(b.N), "names/s")
		})
	}
	for _, v := range versions {
		b.Run(fmt.Sprintf("v%d", v), func(b *testing.B) {
			im := openBench(b, v)
			b.ReportAllocs()
			for b.Loop() {
				if n, err := walkCount(im, im.Root()); err != nil || n != benchNames-1 {
					b.Fatal(n, err)
				}
			}
			reportRatio(b, peer)
			b.ReportMetric(benchNames/b.Elapsed().Seconds()*float64(b.N), "names/s")
		})
	}
}

func walkCount(im *rafs.Image, ino rafs.Ino) (names int, err error) {
	dir, err := im.Inode(ino)
	if err != nil {
		return 0, err
	}
	cur, err := dir.Dir(2) // after the dots
	if err != nil {
		return 0, err
	}
	var d rafs.Dirent
	for {
		ok, err := cur.Next(&d)
		if err != nil || !ok {
			return names, err
		}
		n, err := im.Inode(d.Ino)
		if err != nil {
			return names, err
		}
		if names++; n.Attr().Mode&rafs.ModeType == rafs.ModeDir {
			below, err := walkCount(im, d.Ino)
			if err != nil {
				return names, err
			}
			names += below
		}
	}
}

func walkKernel(b *testing.B, root string) {
	b.Helper()
	names := 0
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		names++
		_, err = d.Info()
		return err
	})
	if err != nil || names != benchNames {
		b.Fatal(names, err)
	}
}
