package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/kata"
	"vrafs/test/vm"
)

// daemonText is a real vrafsd, built once.
var daemonText = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "vrafsd")
	if err := vm.BuildDaemon(context.Background(), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// A patient is a node in a directory, which can be made ill.
type patient struct {
	t    *testing.T
	root string
}

// kataConfig has what Kata's own configuration says where it matters.
const kataConfig = `[hypervisor.%s]
path = "/usr/bin/qemu-system-x86_64"
shared_fs = "virtio-fs"
virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"
virtio_fs_cache_size = 0
virtio_fs_queue_size = 1024
virtio_fs_extra_args = ["--thread-pool-size=1", "--announce-submounts"]
[runtime]
sandbox_cgroup_only = true
`

// healthy makes a node that was set up as `vrafs kata config` says.
func healthy(t *testing.T, s kata.Setup) *patient {
	t.Helper()
	testenv.Need(t, testenv.Root) // device nodes
	p := &patient{t, t.TempDir()}
	s = s.WithDefaults()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		p.write(f.Path, f.Text)
	}
	dir, section := kata.KataDir, string(s.VMM)
	if s.Runtime == kata.Rust {
		dir = kata.KataDirRust
		if s.VMM == kata.VMMCloudHypervisor {
			section = "cloud-hypervisor"
		}
	}
	p.write(dir+"/configuration-qemu.toml", fmt.Sprintf(kataConfig, section))
	p.link(dir+"/configuration.toml", "configuration-qemu.toml")
	if s.Containerd == 2 {
		p.write("/etc/containerd/config.toml", "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n")
	}
	p.write("/proc/1/mounts", "rootfs / rootfs rw 0 0\n/dev/vda1 / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw 0 0\n10.0.0.1:/x /mnt/nfs\\040share nfs4 rw 0 0\n")
	p.write("/proc/filesystems", "nodev\tproc\nnodev\toverlay\nnodev\tfuse\n\text4\n")
	p.write("/proc/meminfo", "MemTotal: 1 kB\nHugePages_Total:       0\n")
	p.write("/proc/sys/fs/file-max", "9223372036854775807\n")
	p.write("/proc/77/comm", "containerd\n")
	p.write("/proc/77/limits", "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n")
	daemon, err := daemonText()
	if err != nil {
		t.Fatal(err)
	}
	p.write(s.Daemon, string(daemon))
	p.mode(s.Daemon, 0o755)
	for _, d := range []string{"/dev/kvm", "/dev/vhost-vsock", "/dev/fuse"} {
		p.write(d, "")
		p.remove(d)
		if err := unix.Mknod(filepath.Join(p.root, d), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *patient) write(path, text string) {
	p.t.Helper()
	path = filepath.Join(p.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) link(path, to string) {
	p.t.Helper()
	if err := os.Symlink(to, filepath.Join(p.root, path)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) mode(path string, mode os.FileMode) {
	p.t.Helper()
	if err := os.Chmod(filepath.Join(p.root, path), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) remove(path string) {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.root, path)); err != nil {
		p.t.Fatal(err)
	}
}

// change replaces text in a file; it must be there.
func (p *patient) change(path, from, to string) {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.root, path))
	if err != nil || !strings.Contains(string(b), from) {
		p.t.Fatalf("%s without %q, %v", path, from, err)
	}
	p.write(path, strings.ReplaceAll(string(b), from, to))
}

// examine runs the daemon for real.
func (p *patient) examine() []Finding {
	return Examine(p.t.Context(), Options{Root: p.root, Run: func(ctx context.Context, path string, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
		return string(out), err
	}})
}

func TestGoodNodesHaveNoFaults(t *testing.T) {
	for name, s := range map[string]kata.Setup{
		"go-qemu":     {},
		"go-clh":      {VMM: kata.VMMCloudHypervisor},
		"rust-qemu":   {Runtime: kata.Rust, Daemon: "/opt/vrafs/bin/vrafsd"},
		"rust-clh":    {Runtime: kata.Rust, VMM: kata.VMMCloudHypervisor},
		"containerd1": {Containerd: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := healthy(t, s)
			list := p.examine()
			subjects := map[string]bool{}
			for _, f := range list {
				subjects[f.Subject] = true
				if f.Level != OK || f.Remedy != "" {
					t.Errorf("%+v", f)
				}
			}
			for _, want := range []string{subjContainerd, subjSnapshotter, subjCache, subjKata, subjDaemon, "kernel", "limits"} {
				if !subjects[want] {
					t.Errorf("nothing about %s in %+v", want, list)
				}
			}
		})
	}
}

const (
	dropIn     = kata.KataDir + "/" + kata.DropIn
	criImages  = "plugins.'io.containerd.cri.v1.images'"
	criRuntime = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes"
)

// illnesses are nodes that are broken in one way each.
var illnesses = []struct {
	name string
	harm func(p *patient)
	want Finding // Found and Remedy: parts
}{
	{"virtiofsd's kind of sharing", func(p *patient) { p.change(dropIn, "virtio-fs-nydus", "virtio-fs") },
		Finding{File: dropIn, Key: "hypervisor.qemu.shared_fs", Found: `shared_fs is "virtio-fs"`, Remedy: "virtio-fs-nydus"}},
	{"no drop-in", func(p *patient) { p.change(dropIn, "shared_fs = \"virtio-fs-nydus\"\n", "") },
		Finding{File: kata.KataDir + "/configuration.toml", Key: "hypervisor.qemu.shared_fs", Found: "virtio-fs", Remedy: "virtio-fs-nydus"}},
	{"the daemon is not there", func(p *patient) { p.remove("/usr/local/bin/vrafsd") },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_daemon", Found: "no such file", Remedy: "install vrafsd"}},
	{"the daemon is no program", func(p *patient) { p.mode("/usr/local/bin/vrafsd", 0o644) },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_daemon", Found: "no executable file", Remedy: "install vrafsd"}},
	{"another daemon", func(p *patient) {
		p.write("/usr/local/bin/vrafsd", "#!/bin/sh\necho nydusd version v2.3.0\n")
		p.mode("/usr/local/bin/vrafsd", 0o755)
	}, Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_daemon", Found: "nydusd version v2.3.0", Remedy: "install vrafsd"}},
	{"arguments that nobody takes", func(p *patient) { p.change(dropIn, "extra_args = []", `extra_args = ["--magic", "4"]`) },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_extra_args", Found: "--magic", Remedy: "set it to []"}},
	{"a DAX window", func(p *patient) { p.change(dropIn, "cache_size = 0", "cache_size = 1024") },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_cache_size", Found: "QEMU has no property cache-size", Remedy: "set it to 0"}},
	{"DAX of runtime-rs", func(p *patient) { p.change(dropIn, "queue_size = 1024", "queue_size = 1024\nvirtio_fs_is_dax = true") },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_is_dax", Found: "DAX", Remedy: "false"}},
	{"a queue size", func(p *patient) { p.change(dropIn, "queue_size = 1024", "queue_size = 1000") },
		Finding{File: dropIn, Key: "hypervisor.qemu.virtio_fs_queue_size", Found: "1000", Remedy: "1024"}},
	{"machines of a template", func(p *patient) { p.change(dropIn, "enable_template = false", "enable_template = true") },
		Finding{File: dropIn, Key: "factory.enable_template", Found: "do not share their memory", Remedy: "false"}},
	{"guest memory on a disk", func(p *patient) { p.change("/proc/1/mounts", "tmpfs /dev/shm tmpfs rw 0 0\n", "") },
		Finding{File: kata.KataDir + "/configuration.toml", Key: "hypervisor.qemu.file_mem_backend", Found: "on ext4", Remedy: "tmpfs on /dev/shm"}},
	{"no huge pages", func(p *patient) { p.change(dropIn, "[hypervisor.qemu]", "[hypervisor.qemu]\nenable_hugepages = true") },
		Finding{File: dropIn, Key: "hypervisor.qemu.enable_hugepages", Found: "no huge pages", Remedy: "vm.nr_hugepages"}},
	{"another hypervisor", func(p *patient) {
		p.change(kata.KataDir+"/configuration-qemu.toml", "[runtime]", "[hypervisor.firecracker]\npath = \"/x\"\n[runtime]")
	},
		Finding{File: kata.KataDir + "/configuration.toml", Key: "hypervisor.firecracker", Found: "no daemon", Remedy: "QEMU or Cloud Hypervisor"}},
	{"a drop-in that is no TOML", func(p *patient) { p.write(kata.KataDir+"/config.d/90-site.toml", "[hypervisor.qemu\n") },
		Finding{File: kata.KataDir + "/config.d/90-site.toml", Found: "line 1", Remedy: "correct the file"}},
	{"no Kata", func(p *patient) { p.remove(kata.KataDir) },
		Finding{File: kata.KataDir + "/configuration.toml", Found: "no such file", Remedy: "install Kata"}},
	{"a cache on NFS", func(p *patient) {
		p.change(kata.SnapshotterFile, `cache_dir = "/var/lib/nydus/cache"`, `cache_dir = "/mnt/nfs share/cache"`)
	},
		Finding{File: kata.SnapshotterFile, Key: "cache_manager.cache_dir", Found: "on nfs4", Remedy: "local file system"}},
	{"a cache in a file", func(p *patient) { p.write("/var/lib/nydus/cache", "x") },
		Finding{File: kata.SnapshotterFile, Key: "cache_manager.cache_dir", Found: "no directory", Remedy: "name a directory"}},
	{"no extraoption", func(p *patient) {
		p.change(kata.SnapshotterFile, "enable_nydus_overlayfs = true", "enable_nydus_overlayfs = false")
	},
		Finding{File: kata.SnapshotterFile, Key: "snapshot.enable_nydus_overlayfs", Found: "not told of images", Remedy: "true"}},
	{"guest pull", func(p *patient) {
		p.change(kata.SnapshotterFile, "enable_kata_volume = false", "enable_kata_volume = true")
	},
		Finding{File: kata.SnapshotterFile, Key: "snapshot.enable_kata_volume", Found: "inside the guest", Remedy: "false"}},
	{"fscache", func(p *patient) { p.change(kata.SnapshotterFile, "fusedev", "fscache") },
		Finding{File: kata.SnapshotterFile, Key: "daemon.fs_driver", Found: "fscache", Remedy: "fusedev"}},
	{"no snapshotter", func(p *patient) { p.remove(kata.SnapshotterFile) },
		Finding{File: kata.SnapshotterFile, Found: "no such file", Remedy: "--file snapshotter"}},
	{"no template", func(p *patient) { p.remove(kata.NydusdConfig) },
		Finding{File: kata.NydusdConfig, Found: "no such file", Remedy: "--file nydusd"}},
	{"no cache in the template", func(p *patient) { p.change(kata.NydusdConfig, "blobcache", "dummycache") },
		Finding{File: kata.NydusdConfig, Key: "device.cache.type", Found: "dummycache", Remedy: "blobcache"}},
	{"digests of version 5", func(p *patient) { p.change(kata.NydusdConfig, `"digest_validate": false`, `"digest_validate": true`) },
		Finding{File: kata.NydusdConfig, Key: "digest_validate", Found: "refused", Remedy: "false"}},
	{"no annotations", func(p *patient) { p.change(kata.ContainerdFile2, "disable_snapshot_annotations = false", "") },
		Finding{File: "/etc/containerd/config.toml", Key: criImages + ".disable_snapshot_annotations", Found: "which image", Remedy: "false"}},
	{"layers are discarded", func(p *patient) { p.change(kata.ContainerdFile2, "unpacked_layers = false", "unpacked_layers = true") },
		Finding{File: kata.ContainerdFile2, Key: criImages + ".discard_unpacked_layers", Found: "thrown away", Remedy: "false"}},
	{"another socket", func(p *patient) { p.change(kata.ContainerdFile2, "containerd-nydus-grpc.sock", "other.sock") },
		Finding{File: "/etc/containerd/config.toml", Key: "proxy_plugins.nydus", Found: "no proxy plugin", Remedy: kata.SnapshotterSock}},
	{"no runtime with the snapshotter", func(p *patient) { p.change(kata.ContainerdFile2, `snapshotter = "nydus"`, `snapshotter = "overlayfs"`) },
		Finding{File: kata.ContainerdFile2, Key: criRuntime + ".kata-qemu.snapshotter", Found: "no runtime of Kata gets images", Remedy: `"nydus"`}},
	{"no runtime of Kata", func(p *patient) { p.change(kata.ContainerdFile2, "io.containerd.kata", "io.containerd.runc") },
		Finding{File: "/etc/containerd/config.toml", Key: criRuntime, Found: "no runtime of Kata is there", Remedy: "--file containerd"}},
	{"containerd's file is no TOML", func(p *patient) { p.write("/etc/containerd/config.toml", "version = = 3") },
		Finding{File: "/etc/containerd/config.toml", Found: "line 1", Remedy: "--file containerd"}},
	{"no virtualization", func(p *patient) { p.remove("/dev/kvm") },
		Finding{File: "/dev/kvm", Found: "no such file", Remedy: "kvm_intel"}},
	{"no vsock", func(p *patient) { p.remove("/dev/vhost-vsock") },
		Finding{File: "/dev/vhost-vsock", Found: "can't reach the agent", Remedy: "vhost_vsock"}},
	{"images on the host without FUSE", func(p *patient) {
		p.remove("/dev/fuse")
		p.change(kata.SnapshotterFile, `daemon_mode = "none"`, `daemon_mode = "dedicated"`)
	}, Finding{File: "/dev/fuse", Found: "can't mount images", Remedy: "daemon_mode"}},
	{"no overlayfs", func(p *patient) { p.change("/proc/filesystems", "nodev\toverlay\n", "") },
		Finding{File: "/proc/filesystems", Key: "overlay", Found: "does not know", Remedy: "load the module overlay"}},
	{"few files for the node", func(p *patient) { p.write("/proc/sys/fs/file-max", "8192\n") },
		Finding{File: "/proc/sys/fs/file-max", Key: "fs.file-max", Found: "8192", Remedy: "32768"}},
	{"few files for shims", func(p *patient) { p.change("/proc/77/limits", "524288", "1024") },
		Finding{File: "containerd.service", Key: "LimitNOFILE", Found: "1024", Remedy: "1048576"}},
}

// TestIllNodesAreToldWhatToChange: each node has its one fault, with file, key and
// remedy, and no other.
func TestIllNodesAreToldWhatToChange(t *testing.T) {
	for _, tt := range illnesses {
		t.Run(tt.name, func(t *testing.T) {
			p := healthy(t, kata.Setup{})
			tt.harm(p)
			list := p.examine()
			faults := slices.DeleteFunc(slices.Clone(list), func(f Finding) bool { return f.Level == OK })
			if len(faults) != 1 || Faults(list) != 1 {
				t.Fatalf("%d faults, want one: %+v", len(faults), faults)
			}
			f := faults[0]
			if f.File != tt.want.File || f.Key != tt.want.Key || !strings.Contains(f.Found, tt.want.Found) || !strings.Contains(f.Remedy, tt.want.Remedy) {
				t.Errorf("got  %+v\nwant %+v", f, tt.want)
			}
			if strings.Contains(f.Found+f.Remedy, p.root) {
				t.Errorf("shows where the node is for us: %+v", f)
			}
		})
	}
}

func TestCacheInMemoryIsAWarning(t *testing.T) {
	p := healthy(t, kata.Setup{})
	p.change("/proc/1/mounts", "/dev/shm", "/var")
	p.change("/proc/1/mounts", "hugetlbfs /dev/hugepages hugetlbfs", "tmpfs /dev/shm tmpfs")
	list := p.examine()
	i := slices.IndexFunc(list, func(f Finding) bool { return f.Level == Warning })
	if i < 0 || Faults(list) != 0 || list[i].Key != "cache_manager.cache_dir" || !strings.Contains(list[i].Remedy, "--cache-limit") {
		t.Errorf("%+v", list)
	}
}

// TestLinksStayInTheNode: absolute links lead to the node's files, not to ours.
func TestLinksStayInTheNode(t *testing.T) {
	p := healthy(t, kata.Setup{})
	p.remove(kata.KataDir + "/configuration.toml")
	p.link(kata.KataDir+"/configuration.toml", "/etc/kata-containers/configuration-qemu.toml")
	p.remove(kata.NydusdConfig)
	p.link(kata.NydusdConfig, "/../../../../../../etc/passwd")
	p.link("/etc/loop", "loop")
	n := &node{o: Options{Root: p.root}}
	if _, err := n.read("/etc/loop"); err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Error(err)
	}
	if text, err := n.read(kata.NydusdConfig); err == nil {
		t.Errorf("left the node: %d bytes", len(text))
	}
	list := p.examine()
	if Faults(list) != 1 {
		t.Errorf("%+v", list)
	}
}

// TestFindingsAreJSON: what --json prints has the names that a script reads.
func TestFindingsAreJSON(t *testing.T) {
	p := healthy(t, kata.Setup{})
	p.remove("/dev/kvm")
	text, err := json.Marshal(p.examine())
	if err != nil || !strings.Contains(string(text), `{"level":"fault","subject":"kernel","file":"/dev/kvm","found":"`) {
		t.Errorf("%s, %v", text, err)
	}
}
