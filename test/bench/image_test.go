package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// The tree: 6,000 small files in 60 directories, and one big file for the reads.
const (
	dirs     = 60
	perDir   = 100
	bigFile  = "big"
	bigBytes = 64 << 20
)

// makeTree fills dir with the tree. Sizes of small files are those of a system's
// configuration, scripts and libraries: 200 bytes to 16 KiB.
func makeTree(b *testing.B, dir string) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 1<<20)
	write := func(path string, n int) {
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		for n > 0 {
			part := buf[:min(n, len(buf))]
			for i := 0; i+8 <= len(part); i += 8 {
				v := r.Uint64()
				for k := range 8 {
					part[i+k] = byte(v >> (8 * k))
				}
			}
			if _, err := f.Write(part); err != nil {
				b.Fatal(err)
			}
			n -= len(part)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for d := range dirs {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", d))
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range perDir {
			write(filepath.Join(sub, fmt.Sprintf("file-%03d.conf", f)), 200+r.IntN(16<<10))
		}
	}
	write(filepath.Join(dir, bigFile), bigBytes)
}

// An image is what vrafsd is started with.
type image struct {
	bootstrap string
	config    string
}

// makeImage builds the image of tree with everything our daemon needs beside it.
func makeImage(b *testing.B, tree string) *image {
	b.Helper()
	made := testimage.Make(b, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd, Source: tree})
	return configure(b, made.Bootstrap, made.BlobDir)
}

// configure writes the configuration for an image whose blobs lie in a directory.
func configure(b *testing.B, bootstrap, blobs string) *image {
	b.Helper()
	dir := b.TempDir()
	im := &image{bootstrap: bootstrap, config: filepath.Join(dir, "config.json")}
	text, err := json.Marshal(map[string]any{
		"version": 2,
		"backend": map[string]any{"type": "localfs", "localfs": map[string]any{"dir": blobs}},
		"cache":   map[string]any{"type": "filecache", "filecache": map[string]any{"work_dir": filepath.Join(dir, "cache")}},
		"rafs":    map[string]any{"mode": "direct", "enable_xattr": true},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(im.config, text, 0o600); err != nil {
		b.Fatal(err)
	}
	return im
}

var buildDaemon = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vrafs-bench-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vrafsd")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/vrafsd")
	cmd.Dir, cmd.Env = testenv.ModuleRoot(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build vrafsd: %w\n%s", err, out)
	}
	return path, nil
})

// daemonBinary is our daemon, built as `make build` builds it, or the file named
// by VRAFSD.
func daemonBinary(b *testing.B) string {
	b.Helper()
	if p := os.Getenv("VRAFSD"); p != "" {
		return p
	}
	path, err := buildDaemon()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	if beGoFuse() {
		return
	}
	status := m.Run()
	if path, err := buildDaemon(); err == nil && os.Getenv("VRAFSD") == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}
