package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// devices looks at what the kernel has to offer.
func (n *node) devices(runtimes []*runtime, s snapshotter) {
	before := len(n.findings)
	need := func(p, what, remedy string) {
		st, err := n.stat(p)
		switch {
		case err != nil:
			n.add(Finding{Level: Fault, Subject: "kernel", File: p, Found: what + ": " + why(err), Remedy: remedy})
		case st.Mode()&fs.ModeCharDevice == 0:
			n.add(Finding{Level: Fault, Subject: "kernel", File: p, Found: what + ": not a character device", Remedy: remedy})
		}
	}
	need("/dev/kvm", "machines can't be run", "enable virtualization in the firmware and load kvm_intel or kvm_amd")
	if slices.ContainsFunc(runtimes, func(r *runtime) bool { return r.qemu }) {
		need("/dev/vhost-vsock", "QEMU can't reach the agent in the guest", "load the module vhost_vsock")
	}
	if s.mounts && s.tree != nil {
		need("/dev/fuse", "the snapshotter's daemons can't mount images on the host", `load the module fuse, or set daemon_mode = "none" in `+s.tree.file)
		n.fileSystem("fuse", "load the module fuse")
	}
	n.fileSystem("overlay", "load the module overlay")
	if len(n.findings) == before {
		n.well("kernel", "the devices and file systems that are needed are there")
	}
}

// fileSystem wants the kernel to know a type of file system.
func (n *node) fileSystem(kind, remedy string) {
	text, err := n.read("/proc/filesystems")
	if err != nil {
		return
	}
	if !slices.Contains(strings.Fields(text), kind) {
		n.add(Finding{Level: Fault, Subject: "kernel", File: "/proc/filesystems", Key: kind, Found: "the kernel does not know this file system", Remedy: remedy})
	}
}

// Least numbers of files. Below the first the daemon does not start.
const (
	leastFiles   = 32768
	leastPerShim = 4096
)

// limits looks at how many files the daemon may open.
func (n *node) limits() {
	before := len(n.findings)
	const fileMax = "/proc/sys/fs/file-max"
	if text, err := n.read(fileMax); err == nil {
		if v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil && v < leastFiles {
			n.add(Finding{Level: Fault, Subject: "limits", File: fileMax, Key: "fs.file-max", Found: fmt.Sprintf("%d files for the whole node: the daemon does not start", v),
				Remedy: fmt.Sprintf("raise it to %d or more with sysctl", leastFiles)})
		}
	}
	for _, limits := range n.limitsOf("containerd") {
		for line := range strings.Lines(limits) {
			rest, ok := strings.CutPrefix(line, "Max open files")
			if f := strings.Fields(rest); ok && len(f) > 1 {
				if hard, err := strconv.ParseUint(f[1], 10, 64); err == nil && hard < leastPerShim {
					n.add(Finding{Level: Fault, Subject: "limits", File: "containerd.service", Key: "LimitNOFILE", Found: fmt.Sprintf("at most %d open files for what containerd starts", hard),
						Remedy: "raise it to 1048576 and restart containerd"})
				}
			}
		}
	}
	if len(n.findings) == before {
		n.well("limits", "the daemon may open enough files")
	}
}

// limitsOf is the limits of each process with a name.
func (n *node) limitsOf(name string) (list []string) {
	for _, dir := range n.glob("/proc/[1-9]*") {
		comm, err := n.read(path.Join(dir, "comm"))
		if err != nil || strings.TrimSpace(comm) != name {
			continue
		}
		if text, err := n.read(path.Join(dir, "limits")); err == nil || !errors.Is(err, fs.ErrNotExist) {
			list = append(list, text)
		}
	}
	return list
}
