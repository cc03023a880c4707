package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
)

// imageTool is vrafs, built once.
var imageTool = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), "vrafs-bench-tool")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/vrafs")
	cmd.Dir = testenv.ModuleRoot()
	return path, cmd.Run()
})

// spent adds up processor time and the largest process.
type spent struct {
	seconds float64
	peak    int64 // KiB
}

func (s *spent) run(b *testing.B, name string, args ...string) {
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	s.seconds += cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	s.peak = max(s.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
}

// BenchmarkConversion is a conversion of the python image beside other things that may be
// done with its layers: pack them again with the zstd program (same level and threads), an
// EROFS image of the unpacked tree, a copy and an unpacked tree. cpu-s counts all processes.
func BenchmarkConversion(b *testing.B) {
	testenv.Need(b, testenv.ImageTools, testenv.MkfsErofs, testenv.Root)
	im := testoci.Python(b)
	tool, err := imageTool()
	if err != nil {
		b.Fatal(err)
	}
	var layers []string
	for _, l := range im.Layers(b) {
		layers = append(layers, im.Blob(l.Digest))
	}
	const repack = `for f; do gzip -dc "$f" | zstd -q -3 -T2 -f -o "$0"; done`
	for _, tt := range []struct {
		name string
		run  func(s *spent, dir string)
	}{
		{"zstd", func(s *spent, dir string) { s.run(b, "sh", append([]string{"-c", repack, dir + "/zst"}, layers...)...) }},
		{"vrafs", func(s *spent, dir string) {
			s.run(b, tool, "convert", "-q", "--no-cache", im.Reference(), "oci:"+dir+"/nydus:1")
		}},
		{"vrafs-lz4", func(s *spent, dir string) {
			s.run(b, tool, "convert", "-q", "--no-cache", "--compressor", "lz4_block", im.Reference(), "oci:"+dir+"/nydus:1")
		}},
		{"mkfs.erofs", func(s *spent, dir string) { s.run(b, "mkfs.erofs", "-zlz4", dir+"/erofs", im.Tree) }},
		{"skopeo+umoci", func(s *spent, dir string) {
			s.run(b, "skopeo", "--insecure-policy", "copy", "-q", im.Reference(), "oci:"+dir+"/l:1")
			s.run(b, "umoci", "raw", "unpack", "--image", dir+"/l:1", dir+"/tree")
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var s spent
			for b.Loop() {
				tt.run(&s, b.TempDir())
			}
			b.ReportMetric(s.seconds/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(s.peak)/1024, "peak-MiB")
		})
	}
}
