package kata

import (
	"path"
	"strings"
)

// A Runtime is one of Kata's two shims.
type Runtime string

// The runtimes.
const (
	Go   Runtime = "go"   // src/runtime
	Rust Runtime = "rust" // src/runtime-rs
)

// Runtimes are the names that there are.
func Runtimes() []string { return []string{string(Go), string(Rust)} }

// A VMM is a hypervisor that a runtime can start with virtio-fs-nydus.
type VMM string

// The hypervisors.
const (
	VMMQEMU            VMM = "qemu"
	VMMCloudHypervisor VMM = "clh"
)

// VMMs are the names that there are.
func VMMs() []string { return []string{string(VMMQEMU), string(VMMCloudHypervisor)} }

// section is the hypervisor's table in a runtime's configuration.
func (v VMM) section(by Runtime) string {
	if v == VMMCloudHypervisor && by == Rust {
		return "cloud-hypervisor"
	}
	return string(v)
}

// What a guest sees below the mount of the sandbox's one virtio-fs device.
const (
	Tag        = "kataShared"                   // of the device
	GuestRoot  = "/run/kata-containers/shared/" // where the agent mounts it
	Containers = "/containers"                  // mountpoint of the shared directory
)

// ImageMountpoint is where a container's image is mounted, below GuestRoot.
func ImageMountpoint(cid string) string { return "/rafs/" + cid + "/lowerdir" }

// IsNydusMount reports whether a runtime takes a root file system of a mount type
// for an image to be mounted by the daemon.
func IsNydusMount(mountType string, by Runtime) bool {
	const prefix, name = "fuse.", "nydus-overlayfs"
	if by == Rust {
		return mountType == prefix+name
	}
	program, ok := strings.CutPrefix(mountType, prefix)
	return ok && strings.HasPrefix(path.Base(program), name)
}
