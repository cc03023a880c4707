package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/teststore"
)

// A disk is a small file system of the test's, on a loop device.
type disk struct {
	t       *testing.T
	dir     string // where it is mounted
	device  string
	fillers int
}

// newDisk makes a file system of that many MiB by a command, and mounts it.
func newDisk(t *testing.T, mib int64, mkfs ...string) *disk {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.Loop)
	d := &disk{t: t, dir: t.TempDir()}
	image := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, mib<<20)); err != nil {
		t.Fatal(err)
	}
	d.command(append(mkfs, image)...)
	options := "loop"
	if mkfs[0] == "mkfs.ext4" {
		options += ",errors=remount-ro"
	}
	d.command("mount", "-o", options, image, d.dir)
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	d.device = d.command("findmnt", "-n", "-o", "SOURCE", d.dir)
	return d
}

// command runs a program that must succeed, and gives what it prints.
func (d *disk) command(args ...string) string {
	d.t.Helper()
	out, err := exec.Command(testenv.Program(args[0]), args[1:]...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// fill writes until nothing more goes in.
func (d *disk) fill(want syscall.Errno) {
	d.t.Helper()
	d.fillers++
	f, err := os.Create(filepath.Join(d.dir, fmt.Sprint("filler", d.fillers)))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, want) {
		d.t.Fatalf("%v, want %v", err, want)
	}
}

// free takes away what fill wrote.
func (d *disk) free() {
	d.t.Helper()
	for i := range d.fillers {
		if err := os.Remove(filepath.Join(d.dir, fmt.Sprint("filler", i+1))); err != nil {
			d.t.Fatal(err)
		}
	}
	d.fillers = 0
}

// limit leaves little room, and uses it up.
func (d *disk) limit() {
	d.t.Helper()
	d.command("btrfs", "quota", "enable", d.dir)
	d.command("btrfs", "qgroup", "limit", "8M", d.dir)
	d.fill(syscall.EDQUOT)
}

// fail has ext4 find an error, which makes it read-only.
func (d *disk) fail() {
	d.t.Helper()
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0o200); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "more"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		d.t.Fatalf("%v, want %v", err, syscall.EROFS)
	}
}

// TestFullDisk, or one whose quota is used up, or one that turns read-only, holds the
// cache, the log and the control socket of a daemon. Reads, API and log go on, an event
// tells why nothing is kept, and when there is room again the cache is filled.
func TestFullDisk(t *testing.T) {
	ext4, btrfs := []string{"mkfs.ext4", "-q", "-F"}, []string{"mkfs.btrfs", "-q"}
	for _, tt := range []struct {
		name   string
		need   testenv.Feature
		mib    int64
		mkfs   []string
		end    func(d *disk) // of the room
		event  syscall.Errno
		passes bool
	}{
		{"full", testenv.Ext4, 24, ext4, func(d *disk) { d.fill(syscall.ENOSPC) }, syscall.ENOSPC, true},
		{"over quota", testenv.Btrfs, 128, btrfs, (*disk).limit, syscall.EDQUOT, true},
		{"read-only", testenv.Ext4, 24, ext4, (*disk).fail, syscall.EROFS, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.Need(t, tt.need)
			d := newDisk(t, tt.mib, tt.mkfs...)
			h := newHost(t)
			h.api = filepath.Join(d.dir, "api.sock")
			p := h.fuse(t, h.api, "--log-file", filepath.Join(d.dir, "vrafsd.log"))
			p.waitSocket()
			before := d.mount(h, p, "before")
			before.readAll("f0", "f1", "f2")
			tt.end(d)
			late := d.mount(h, p, "late")
			for range 2 {
				before.readAll()
				late.readAll()
				before.forget()
				late.forget()
			}
			if p.metric("vrafs_cache_unstored_total", "mountpoint", "/late") == 0 {
				t.Error("everything was stored: the test shows nothing")
			}
			p.apiWorks("/late", d.dir, tt.event.Error())
			if tt.passes {
				d.free()
				again := d.mount(h, p, "again")
				again.readAll()
				if n := p.metric("vrafs_cache_unstored_total", "mountpoint", "/again"); n != 0 {
					t.Errorf("%v chunks were not stored though there is room", n)
				}
				d.logged("Rafs filesystem mounted at /again")
			}
		})
	}
}

// mount mounts an image out of a registry, with a cache on the disk.
func (d *disk) mount(h *host, p *process, place string) *spoiled {
	d.t.Helper()
	im := newRandomImage(d.t, 12, 100_000)
	kind := teststore.Find(d.t, "registry")
	m := &spoiled{t: d.t, h: h, p: p, place: place, files: im.files}
	m.mountAt(im, kind.StartDir(d.t, im.BlobDir), filepath.Join(d.dir, "cache"))
	return m
}

// logged fails the test unless the log has a line with a text.
func (d *disk) logged(text string) {
	d.t.Helper()
	log, err := os.ReadFile(filepath.Join(d.dir, "vrafsd.log"))
	if err != nil || !strings.Contains(string(log), text) {
		d.t.Errorf("no %q in the log: %v", text, err)
	}
}

// apiWorks asks for what clients ask for, at last to take a mount away. The events have
// certain texts.
func (p *process) apiWorks(place string, texts ...string) {
	p.t.Helper()
	events := p.must(200, "GET", "/api/v1/daemon/events", "")
	for _, want := range texts {
		if !strings.Contains(events, want) {
			p.t.Errorf("no %q in the events: %s", want, events)
		}
	}
	for _, target := range []string{"/api/v1/daemon", "/api/v1/metrics?id=" + place, "/api/v1/metrics/backend?id=" + place, "/metrics"} {
		p.must(200, "GET", target, "")
	}
	p.must(204, "PUT", "/api/v1/config?id="+place, `{"registry_auth":"dTpw"}`)
	p.must(204, "DELETE", "/api/v1/mount?mountpoint="+place, "")
}

// TestReadOnlyCacheDirectory of a daemon that finds it so: the tree is whole.
func TestReadOnlyCacheDirectory(t *testing.T) {
	h, im := newHost(t), smallImage(t)
	if err := unix.Mount(im.cache, im.cache, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(im.cache, unix.MNT_DETACH) })
	if err := unix.Mount("", im.cache, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	im.CompareMount(t, filepath.Join(h.dir, "a"))
	p.apiWorks("/a", im.cache, syscall.EROFS.Error())
}
