package vm

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"
)

// BuildGuest compiles the guest program to the file at path, without cgo.
func BuildGuest(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "vrafs/test/vm/guest")
	cmd.Dir = testenv.ModuleRoot()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest program: %w\n%s", err, out)
	}
	return nil
}

// writeInitramfs writes the archive with the guest program as /init, the kernel's
// modules and the given files below guestapi.FilesDir.
func writeInitramfs(name, guest string, k *Kernel, files map[string][]byte) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	c := &cpioWriter{w: out}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "mnt", "modules", strings.TrimPrefix(guestapi.FilesDir, "/")} {
		c.add(dir, cpioDir|0o755, 0, 0, nil)
	}
	// The kernel opens this for /init before devtmpfs is mounted.
	c.add("dev/console", cpioChar|0o600, 5, 1, nil)
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	c.add("init", cpioFile|0o755, 0, 0, program)
	if err := addModules(c, k); err != nil {
		return err
	}
	addFiles(c, files)
	if err := c.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return out.Close()
}

func addModules(c *cpioWriter, k *Kernel) error {
	var list bytes.Buffer
	for _, m := range k.Modules {
		b, err := os.ReadFile(m)
		if err != nil {
			return err
		}
		c.add("modules/"+filepath.Base(m), cpioFile|0o644, 0, 0, b)
		fmt.Fprintln(&list, filepath.Base(m))
	}
	c.add(strings.TrimPrefix(guestapi.Modules, "/"), cpioFile|0o644, 0, 0, list.Bytes())
	return nil
}

// addFiles adds the files in order of their names, directories before what is in
// them: the kernel makes none by itself.
func addFiles(c *cpioWriter, files map[string][]byte) {
	dirs := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for i, r := range name {
			if dir := name[:i]; r == '/' && !dirs[dir] {
				dirs[dir] = true
				c.add(strings.TrimPrefix(path.Join(guestapi.FilesDir, dir), "/"), cpioDir|0o755, 0, 0, nil)
			}
		}
		c.add(strings.TrimPrefix(path.Join(guestapi.FilesDir, name), "/"), cpioFile|0o755, 0, 0, files[name])
	}
}
