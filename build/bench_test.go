package build_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// benchBuild builds the Debian root to files and reports its time as a share of
// the peer's, which runs once before each build with the same cold or warm
// caches. Peak memory is that of the process.
func benchBuild(b *testing.B, o build.Options, peer func(tree, out string) *exec.Cmd) {
	tree := testtree.DebianRoot(b)
	var ours, theirs time.Duration
	var peerRSS int64
	for b.Loop() {
		dir := b.TempDir()
		cmd := peer(tree, filepath.Join(dir, "peer"))
		t := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		theirs += time.Since(t)
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			peerRSS = max(peerRSS, u.Maxrss)
		}
		t = time.Now()
		_, err := build.Build(b.Context(), build.Dir(tree), build.Sink{Bootstrap: filepath.Join(dir, "boot"), Blob: filepath.Join(dir, "blob")}, o)
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(t)
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x-of-peer")
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/build")
	b.ReportMetric(float64(u.Maxrss)/1024, "MiB-peak")
	b.ReportMetric(float64(peerRSS)/1024, "MiB-peer")
}

func BenchmarkBuildLZ4AgainstMkfsErofs(b *testing.B) {
	testenv.Need(b, testenv.MkfsErofs)
	benchBuild(b, build.Options{Compressor: rafs.CompressorLZ4}, func(tree, out string) *exec.Cmd {
		return exec.Command(testenv.Program("mkfs.erofs"), "--quiet", "-zlz4hc", out, tree)
	})
}

func BenchmarkBuildNoneAgainstTarSHA256(b *testing.B) {
	testenv.Need(b, testenv.GNUTar)
	benchBuild(b, build.Options{}, func(tree, out string) *exec.Cmd {
		return exec.Command("sh", "-c", `tar -cf - -C "$1" . | tee "$2" | sha256sum`, "sh", tree, out)
	})
}

// BenchmarkBuildTar is the converters' path: an uncompressed tar through a reader.
func BenchmarkBuildTar(b *testing.B) {
	path := testtree.DebianTar(b)
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		sink := build.Sink{BlobWriter: io.Discard}
		_, err = build.Build(b.Context(), build.Stream(build.TypeTar, f, path), sink, build.Options{
			Compressor: rafs.CompressorZstd, InlineMeta: true, BlobTOC: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		if st, err := f.Stat(); err == nil {
			b.SetBytes(st.Size())
		}
		f.Close()
	}
}
