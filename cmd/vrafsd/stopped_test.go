package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// A view is what a process sees of a tree, a line for each file.
type view []string

// look walks a tree with stat, readdir and readlink and, with contents, open and
// read of every file below 1 MiB.
func look(dir string, contents bool) (v view, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		line := fmt.Sprintf("%q %o %d %d %d", strings.TrimPrefix(path, dir), st.Mode, st.Ino, st.Size, st.Mtim.Nano())
		switch kind := st.Mode & unix.S_IFMT; {
		case kind == unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case kind == unix.S_IFREG && contents && st.Size < 1<<20:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(text)
		}
		v = append(v, line)
		return nil
	})
	return v, err
}

// stopped runs f while the daemon can't answer anything. If f needs an answer, the
// daemon goes on and the test fails.
func (p *process) stopped(f func()) {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.waitStopped()
	hung := time.AfterFunc(patience/2, func() {
		p.t.Error("what the kernel knows already was asked of the daemon again")
		p.signal(syscall.SIGCONT)
	})
	f()
	hung.Stop()
	p.signal(syscall.SIGCONT)
}

// waitStopped returns when every thread stands still.
func (p *process) waitStopped() {
	p.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); ; {
		if p.standsStill() {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			p.t.Fatal("the daemon does not stop")
		}
	}
}

func (p *process) standsStill() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	return !slices.ContainsFunc(threads, func(path string) bool {
		text, err := os.ReadFile(path)
		_, state, _ := strings.Cut(string(text), ") ")
		return err != nil || !strings.HasPrefix(state, "T")
	})
}

// overlay mounts an overlay with a writable layer over a directory.
func overlay(t *testing.T, lower string) string {
	t.Helper()
	testenv.Need(t, testenv.Overlay)
	upper, work, merged := t.TempDir(), t.TempDir(), t.TempDir()
	options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Fatal("overlay: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

// TestWarmImageNeedsNoDaemon looks at trees that the kernel has in its caches
// while the daemon is stopped.
func TestWarmImageNeedsNoDaemon(t *testing.T) {
	im := smallImage(t)
	for _, tt := range []struct {
		name     string
		over     bool // an overlay over it, as containers have
		shared   bool // mounted over the API, so that opening is a message
		contents bool
	}{
		{"image_of_the_command_line", false, false, true},
		{"under_an_overlay", true, false, true},
		{"mounted_over_the_API", true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			var p *process
			dir := h.dir
			if tt.shared {
				p = h.fuse(t, h.api).ready()
				p.must(204, "POST", "/api/v1/mount?mountpoint=%2Fa", im.mountBody(""))
				dir = filepath.Join(dir, "a")
			} else {
				p = h.dedicated(t, im)
			}
			if tt.over {
				dir = overlay(t, dir)
			}
			see := look
			if tt.shared {
				see = statAll(t, dir)
			}
			want, err := see(dir, tt.contents)
			if err != nil || len(want) < 500 {
				t.Fatalf("%d files, %v", len(want), err)
			}
			p.stopped(func() {
				got, err := see(dir, tt.contents)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%d files, want %d, the same: %v", len(got), len(want), err)
				}
			})
		})
	}
}

// statAll is look for the names that are in the tree now, without reading
// directories.
func statAll(t *testing.T, dir string) func(string, bool) (view, error) {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(string, bool) (v view, err error) {
		for _, path := range paths {
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return v, &os.PathError{Op: "lstat", Path: path, Err: err}
			}
			v = append(v, fmt.Sprint(path, st.Mode, st.Ino, st.Size, st.Mtim.Nano()))
		}
		return v, nil
	}
}
