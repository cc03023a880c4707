package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// probes finds out about each feature. The value is what is missing.
var probes map[Feature]func() string

func init() {
	probes = map[Feature]func() string{
		LongTests:   longMissing,
		Root:        rootMissing,
		FUSE:        fuseMissing,
		Loop:        func() string { return rootAnd(deviceMissing("/dev/loop-control")) },
		Erofs:       func() string { return rootAnd(filesystemMissing("erofs")) },
		Overlay:     func() string { return rootAnd(filesystemMissing("overlay")) },
		Ext4:        func() string { return rootAnd(first(filesystemMissing("ext4"), programMissing("mkfs.ext4"))) },
		Btrfs:       func() string { return rootAnd(first(filesystemMissing("btrfs"), programMissing("mkfs.btrfs"))) },
		Netns:       func() string { return rootAnd(programMissing("ip")) },
		QEMU:        func() string { return programMissing("qemu-system-x86_64") },
		GuestKernel: guestKernelMissing,
		Virtiofsd:   func() string { return rootAnd(programMissing("virtiofsd")) },
		FsckErofs:   func() string { return programMissing("fsck.erofs") },
		MkfsErofs:   func() string { return programMissing("mkfs.erofs") },
		Debootstrap: func() string { return rootAnd(programMissing("debootstrap")) },
		ImageTools:  func() string { return first(programMissing("umoci"), programMissing("skopeo")) },
		GNUTar:      func() string { return programMissing("tar") },
		Fio:         func() string { return programMissing("fio") },
		StressNG:    func() string { return programMissing("stress-ng") },
		Dbench:      func() string { return programMissing("dbench") },
		Fusermount:  func() string { return programMissing("fusermount3") },
		Squashfuse:  func() string { return first(programMissing("mksquashfs"), programMissing("squashfuse")) },
		RaceBuild:   func() string { return programMissing("gcc") },
		Registry:    func() string { return programMissing("docker-registry") },
		TokenServer: func() string { return peerMissing("token-server") },
		Nginx:       func() string { return programMissing("nginx") },
		Squid:       func() string { return programMissing("squid") },
		Versitygw:   func() string { return peerMissing("versitygw") },
		Sfdisk:      func() string { return programMissing("sfdisk") },
		Samples:     testdataMissing,
		Containerd:  containerdMissing,
		Snapshotter: func() string {
			return first(peerMissing("containerd-nydus-grpc"), peerMissing("convert"), peerMissing("prepare"))
		},
		TrustedAttr: trustedMissing,
		Git:         func() string { return programMissing("git") },
		History:     historyMissing,
	}
}

func first(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

func rootAnd(why string) string { return first(rootMissing(), why) }

func longMissing() string {
	if testing.Short() {
		return "left out by -short"
	}
	return ""
}

func rootMissing() string {
	if os.Geteuid() != 0 {
		return "not running as root"
	}
	return ""
}

func deviceMissing(path string) string {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	_ = f.Close()
	return ""
}

func fuseMissing() string {
	return first(rootMissing(), deviceMissing("/dev/fuse"))
}

func programMissing(name string) string {
	if Program(name) == "" {
		return "no program " + name + " (scripts/install-deps installs it)"
	}
	return ""
}

func containerdMissing() string {
	why := rootMissing()
	for _, name := range []string{"containerd", "ctr", "runc", "ctr-remote", "docker-registry"} {
		why = first(why, programMissing(name))
	}
	return why
}

func peerMissing(name string) string {
	if _, err := os.Stat(Peer(name)); err != nil {
		return "no program " + Peer(name) + " (scripts/install-deps builds it)"
	}
	return ""
}

func historyMissing() string {
	if err := exec.Command("git", "-C", ModuleRoot(), "rev-parse", "--quiet", "--verify", "HEAD^^{tree}").Run(); err != nil {
		return "no git, or a checkout without the commit before this one"
	}
	return ""
}

func filesystemMissing(name string) string {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == name {
			return ""
		}
	}
	return "the kernel does not list " + name + " in /proc/filesystems"
}

// guestKernelMissing is content with a cached kernel or with what it takes to
// fetch one.
func guestKernelMissing() string {
	cached, _ := filepath.Glob(filepath.Join(CacheDir(), "kernels", "*", "vmlinu*"))
	if len(cached) >= 2 {
		return ""
	}
	return first(programMissing("apt-get"), programMissing("dpkg-deb"))
}

func testdataDir() string {
	if d := os.Getenv("VRAFS_TESTDATA"); d != "" {
		return d
	}
	root := ModuleRoot()
	if root == "" {
		return ""
	}
	return filepath.Join(root, "..", "shared", "testdata", "nydus")
}

func testdataMissing() string {
	dir := testdataDir()
	if dir == "" {
		return "not inside the module"
	}
	if _, err := os.Stat(dir); err != nil {
		return "no directory of sample images (set VRAFS_TESTDATA)"
	}
	return ""
}

func trustedMissing() string {
	if why := rootMissing(); why != "" {
		return why
	}
	f, err := os.CreateTemp("", "vrafs-trusted")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = os.Remove(f.Name()); _ = f.Close() }()
	if err := unix.Fsetxattr(int(f.Fd()), "trusted.vrafs", []byte("x"), 0); err != nil {
		return "set trusted.vrafs: " + err.Error()
	}
	return ""
}
