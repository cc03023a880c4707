package kata

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrSetup is the class of set-ups that can't work.
var ErrSetup = errors.New("bad set-up")

// A Setup describes a node that runs Kata over this daemon. The zero value, after
// WithDefaults, is the Go runtime on QEMU.
type Setup struct {
	Runtime Runtime
	VMM     VMM
	Daemon  string // absolute path of vrafsd
	// Image is the absolute path of vrafs, under the name nydus-image or another.
	Image string
	// Containerd is the major version, 1 or 2.
	Containerd int
	// Runc says that containers run by runc share the node: the snapshotter then
	// mounts images on the host as well.
	Runc bool
	// Cache is the directory of chunks, on a local file system.
	Cache string
}

// WithDefaults fills in what is not set.
func (s Setup) WithDefaults() Setup {
	for _, d := range []struct {
		field *string
		value string
	}{{&s.Daemon, "/usr/local/bin/vrafsd"}, {&s.Image, "/usr/local/bin/nydus-image"}, {&s.Cache, "/var/lib/nydus/cache"}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if s.Runtime == "" {
		s.Runtime = Go
	}
	if s.VMM == "" {
		s.VMM = VMMQEMU
	}
	if s.Containerd == 0 {
		s.Containerd = 2
	}
	return s
}

// check refuses what no file can express.
func (s Setup) check() error {
	for _, p := range []struct{ what, path string }{{"the daemon", s.Daemon}, {"the image tool", s.Image}, {"the cache", s.Cache}} {
		if !path.IsAbs(p.path) || strings.ContainsFunc(p.path, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`*?[]"\`, r) }) {
			return fmt.Errorf("%w: path of %s: %q is not an absolute path without wildcards", ErrSetup, p.what, p.path)
		}
	}
	if s.Containerd != 1 && s.Containerd != 2 {
		return fmt.Errorf("%w: containerd %d: 1 and 2 are known", ErrSetup, s.Containerd)
	}
	return nil
}

// A File is one file of a set-up.
type File struct {
	Name string // as asked for by name: kata, nydusd, snapshotter, containerd
	Path string // where it usually lies
	Text string
}

// Paths of the files, as their programs look for them where nobody says otherwise.
const (
	KataDir         = "/etc/kata-containers"
	KataDirRust     = "/etc/kata-containers/runtime-rs"
	DropIn          = "config.d/50-vrafs.toml" // below either
	NydusdConfig    = "/etc/nydus/nydusd-config.json"
	SnapshotterFile = "/etc/nydus/config.toml"
	SnapshotterSock = "/run/containerd-nydus/containerd-nydus-grpc.sock"
	ContainerdFile1 = "/etc/containerd/config.toml"
	ContainerdFile2 = "/etc/containerd/conf.d/50-nydus.toml"
)

// Files are the files of a set-up, in the order from Kata upwards. The error is of
// class ErrSetup.
func (s Setup) Files() ([]File, error) {
	s = s.WithDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	dir := KataDir
	if s.Runtime == Rust {
		dir = KataDirRust
	}
	containerd := ContainerdFile2
	if s.Containerd == 1 {
		containerd = ContainerdFile1
	}
	return []File{
		{"kata", path.Join(dir, DropIn), s.kata()},
		{"nydusd", NydusdConfig, s.nydusd()},
		{"snapshotter", SnapshotterFile, s.snapshotter()},
		{"containerd", containerd, s.containerd()},
	}, nil
}

// kata is the drop-in of a runtime. It replaces single keys of configuration.toml.
func (s Setup) kata() string {
	runtime, vmm := "Go runtime", "QEMU"
	if s.Runtime == Rust {
		runtime = "runtime-rs"
	}
	if s.VMM == VMMCloudHypervisor {
		vmm = "Cloud Hypervisor"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Kata's %s on %s serves images and shared directories with vrafsd.
# This file belongs into the directory config.d beside the configuration.toml that
# containerd names for the runtime (ConfigPath), or else the runtime's default one.
[hypervisor.%s]
shared_fs = "virtio-fs-nydus"
virtio_fs_daemon = "%s"
valid_virtio_fs_daemon_paths = ["%[4]s"]
# The shipped options are virtiofsd's. vrafsd takes its own here, for instance
# "--cache-limit", "10240" (see vrafsd virtiofs --help).
virtio_fs_extra_args = []
virtio_fs_queue_size = 1024
# DAX: upstream QEMU has no such property and does not start with it, other
# hypervisors ignore it.
virtio_fs_cache_size = 0
`, runtime, vmm, s.VMM.section(s.Runtime), s.Daemon)
	if s.Runtime == Rust {
		b.WriteString("virtio_fs_is_dax = false\n")
	}
	b.WriteString(`
[factory]
# Machines made of a template do not share their memory with a daemon.
enable_template = false
`)
	return b.String()
}

// nydusd is the template that the snapshotter completes for each image.
func (s Setup) nydusd() string {
	work, _ := json.Marshal(s.Cache) // a string
	return `{
  "device": {
    "backend": {
      "type": "registry",
      "config": {"scheme": "https", "timeout": 10, "connect_timeout": 5, "retry_limit": 3}
    },
    "cache": {"type": "blobcache", "config": {"work_dir": ` + string(work) + `}}
  },
  "mode": "direct",
  "digest_validate": false,
  "enable_xattr": true,
  "fs_prefetch": {"enable": true, "threads_count": 4, "prefetch_all": false}
}
`
}

// snapshotter is nydus-snapshotter's whole configuration: it has no drop-ins.
func (s Setup) snapshotter() string {
	mode, why := "none", "Kata starts the daemon: nothing is mounted on the host."
	if s.Runc {
		mode, why = "dedicated", "For runc an image is mounted on the host, too, by a daemon of its own."
	}
	return fmt.Sprintf(`version = 1
root = "/var/lib/containerd-nydus"
address = "%s"
# %s
daemon_mode = "%s"

[daemon]
nydusd_config = "%s"
nydusd_path = "%s"
nydusimage_path = "%s"
fs_driver = "fusedev"

[cache_manager]
cache_dir = "%s"

[snapshot]
# This makes the extraoption that Kata's runtimes look for.
enable_nydus_overlayfs = true
# The other way, for images pulled inside the guest.
enable_kata_volume = false
`, SnapshotterSock, why, mode, NydusdConfig, s.Daemon, s.Image, s.Cache)
}

// containerd is what containerd has to know: the snapshotter, and for which runtime.
func (s Setup) containerd() string {
	images, runtime := "'io.containerd.cri.v1.images'", "'io.containerd.cri.v1.runtime'"
	head := "# containerd 2 reads this where its config.toml imports \"/etc/containerd/conf.d/*.toml\".\nversion = 3\n"
	if s.Containerd == 1 {
		runtime = "'io.containerd.grpc.v1.cri'"
		images = runtime + ".containerd"
		head = "# Merge this into config.toml: containerd 1 replaces a plugin's whole section by an\n# imported one. A snapshotter for one runtime alone needs 1.7.\nversion = 2\n"
	}
	name := "kata-" + string(s.VMM)
	shim := name
	if s.Runtime == Rust {
		shim += "-runtime-rs"
	}
	return fmt.Sprintf(`%s
[proxy_plugins.nydus]
  type = "snapshot"
  address = "%s"

[plugins.%s]
  # The snapshotter finds image and registry in the annotations of a snapshot.
  disable_snapshot_annotations = false
  discard_unpacked_layers = false

[plugins.%s.containerd.runtimes.%s]
  runtime_type = "io.containerd.%s.v2"
  # Other runtimes keep their snapshotter, and images their own copy for each.
  snapshotter = "nydus"
`, head, SnapshotterSock, images, runtime, name, shim)
}
