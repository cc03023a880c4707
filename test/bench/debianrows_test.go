package bench

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// A debianRow is something that programs do with a tree.
type debianRow struct {
	name string
	run  func(root string, files *fileList) error
}

func debianRows() []debianRow {
	return []debianRow{
		{"walk", walkAll},
		{"small", readSmall},
		{"sequential", readSequential},
		{"random", readRandom},
		{"mmap", touchMapped},
		{"python", startPython},
	}
}

// walkAll lists every directory and stats every name.
func walkAll(root string, _ *fileList) error {
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			_, err = d.Info()
		}
		return err
	})
}

// readSmall reads every small file whole.
func readSmall(root string, files *fileList) error {
	buf := make([]byte, smallMost+1)
	for _, path := range files.small {
		if err := withFile(root, path, func(f *os.File) error { return readThrough(f, buf) }); err != nil {
			return err
		}
	}
	return nil
}

// readSequential reads the large files from end to end.
func readSequential(root string, files *fileList) error {
	buf := make([]byte, 128<<10)
	for _, path := range files.large {
		if err := withFile(root, path, func(f *os.File) error { return readThrough(f, buf) }); err != nil {
			return err
		}
	}
	return nil
}

func readThrough(f *os.File, buf []byte) error {
	for {
		if _, err := f.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// readRandom reads 4 KiB at random places of the large files.
func readRandom(root string, files *fileList) error {
	const each = 200
	buf := make([]byte, 4<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range files.large {
		err := withFile(root, path, func(f *os.File) error {
			for range each {
				if _, err := f.ReadAt(buf, r.Int64N(largeLeast/int64(len(buf)))*int64(len(buf))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// touchMapped loads one byte of each page of the large files.
func touchMapped(root string, files *fileList) error {
	sum := byte(0)
	for _, path := range files.large {
		err := withFile(root, path, func(f *os.File) error {
			st, err := f.Stat()
			if err != nil {
				return err
			}
			p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			for i := 0; i < len(p); i += os.Getpagesize() {
				sum += p[i]
			}
			return unix.Munmap(p)
		})
		if err != nil {
			return err
		}
	}
	mapped = sum
	return nil
}

// mapped keeps the loads of touchMapped from being left out.
var mapped byte

// startPython starts the tree's own Python, with its own libraries.
func startPython(root string, _ *fileList) error {
	cmd := exec.Command("/usr/bin/python3", "-c", "import argparse, configparser, logging, re, subprocess, tempfile")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("python3: %w\n%s", err, out)
	}
	return nil
}

// withFile opens a file as most programs do. os.Open would add each file on a FUSE mount
// to the runtime's poller, and no other: 4 µs that are Go's and not the mount's.
func withFile(root, path string, f func(*os.File) error) error {
	fd, err := unix.Open(filepath.Join(root, path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if err := f(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
