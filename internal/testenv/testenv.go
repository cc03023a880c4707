// Package testenv says what the machine that runs the tests can do.
//
//	Need(t, QEMU)   feature there      -> go on
//	                feature missing    -> skip, with what is missing
//	                REQUIRE names it   -> fail, with what is missing
//
// A test skips only through this package, and only for a named feature, so that a run
// can be told to fail where it would have skipped:
// REQUIRE=fuse,qemu go test ./... or REQUIRE=all. Skips are also appended to the
// file named by VRAFS_SKIPLOG, which `make test` prints at its end.
//
// Trust: none needed, it reads the machine only. Concurrency: every function may
// be called from any goroutine. Source: style.md T1.
package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Feature is something that a machine has or lacks. Its text is what REQUIRE
// lists, separated by commas.
type Feature string

// The features tests ask for.
const (
	Root        Feature = "root"        // uid 0 with mount, mknod, chown
	FUSE        Feature = "fuse"        // /dev/fuse can be opened and mounted
	Loop        Feature = "loop"        // loop devices
	Erofs       Feature = "erofs"       // the kernel mounts erofs
	Overlay     Feature = "overlay"     // the kernel mounts overlayfs
	Ext4        Feature = "ext4"        // the kernel mounts ext4 and mkfs.ext4 is there
	Btrfs       Feature = "btrfs"       // the kernel mounts btrfs and mkfs.btrfs is there
	Netns       Feature = "netns"       // network namespaces can be made
	QEMU        Feature = "qemu"        // qemu-system-x86_64 with memory-backend-memfd
	GuestKernel Feature = "guestkernel" // apt-get can fetch Debian's kernel packages, or they are cached
	Virtiofsd   Feature = "virtiofsd"   // Debian's C virtiofsd, the peer in benchmarks
	FsckErofs   Feature = "fsck.erofs"  // erofs-utils' checker
	MkfsErofs   Feature = "mkfs.erofs"  // erofs-utils' builder
	Debootstrap Feature = "debootstrap" // a Debian root file system can be made, or is cached
	ImageTools  Feature = "imagetools"  // umoci and skopeo
	GNUTar      Feature = "tar"         // GNU tar
	Fio         Feature = "fio"         // the I/O load generator
	StressNG    Feature = "stress-ng"   // the load generator with a program for every system call
	Dbench      Feature = "dbench"      // the load generator that does what a file server is asked
	Fusermount  Feature = "fusermount"  // fusermount3, which mounts for users
	Squashfuse  Feature = "squashfuse"  // mksquashfs and squashfuse, a peer in benchmarks
	RaceBuild   Feature = "race"        // programs can be built with the race detector: a C compiler
	Registry    Feature = "registry"    // Debian's docker-registry
	TokenServer Feature = "tokenserver" // the registry project's token server is built
	Nginx       Feature = "nginx"       // nginx with its slice module
	Squid       Feature = "squid"       // squid, the caching proxy
	Versitygw   Feature = "versitygw"   // the S3 server of that name
	Sfdisk      Feature = "sfdisk"      // util-linux's partitioner
	Samples     Feature = "testdata"    // the published sample images
	Containerd  Feature = "containerd"  // containerd, runc, lazy pulls and a registry, as root
	Snapshotter Feature = "snapshotter" // nydus-snapshotter and its converter are built
	TrustedAttr Feature = "trusted"     // trusted.* xattrs can be written in the temporary directory
	Git         Feature = "git"         // git, to make repositories with
	History     Feature = "history"     // git, and the commit before this one
	LongTests   Feature = "long"        // time for tests of more than a few seconds: no -short
)

// Need ends the test unless the machine has every one of the features: as a
// skip, or as a failure where REQUIRE lists the feature or says all.
func Need(t testing.TB, features ...Feature) {
	t.Helper()
	for _, f := range features {
		missing := Missing(f)
		if missing == "" {
			continue
		}
		if Required(f) {
			t.Fatalf("%s is required (REQUIRE=%s) but missing: %s", f, os.Getenv("REQUIRE"), missing)
		}
		skip(t, fmt.Sprintf("needs %s: %s", f, missing))
	}
}

// Required reports whether REQUIRE asks for f.
func Required(f Feature) bool {
	for r := range strings.SplitSeq(os.Getenv("REQUIRE"), ",") {
		if r = strings.TrimSpace(r); r == string(f) || r == "all" {
			return true
		}
	}
	return false
}

// Missing says in a few words what stands in the way of f; "" if nothing does.
// The answer is found once per process.
func Missing(f Feature) string {
	mu.Lock()
	defer mu.Unlock()
	why, known := answers[f]
	if !known {
		probe, ok := probes[f]
		if !ok {
			return "no such feature: " + string(f)
		}
		why = probe()
		answers[f] = why
	}
	return why
}

var (
	mu      sync.Mutex
	answers = map[Feature]string{}
)

// Long is Need(t, LongTests), for a test that takes more than a few seconds: -short
// (`make check`) leaves it out.
func Long(t testing.TB) {
	t.Helper()
	Need(t, LongTests)
}

// Soak reports whether this is the long run (`make soak`, VRAFS_SOAK=1).
func Soak() bool { return os.Getenv("VRAFS_SOAK") == "1" }

// Rounds is n in the long run, otherwise a tenth of it, and never less than one.
func Rounds(n int) int {
	if Soak() {
		return n
	}
	return max(1, n/10)
}

// Testdata returns the directory of the published sample images, or ends the
// test as Need(t, Samples) does.
func Testdata(t testing.TB) string {
	t.Helper()
	Need(t, Samples)
	return testdataDir()
}

// CacheDir is where costly things that tests make are kept between runs: outside
// the repository, $VRAFS_CACHE or vrafs in the user's cache directory.
func CacheDir() string {
	if d := os.Getenv("VRAFS_CACHE"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		d = os.TempDir()
	}
	return filepath.Join(d, "vrafs")
}

// Peer is where scripts/install-deps puts a program that it builds from modules.
func Peer(name string) string { return filepath.Join(CacheDir(), "peers", name) }

// ModuleRoot is the directory of go.mod above the working directory, or "".
func ModuleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// Program finds a program by name in PATH and in the directories that
// distributions keep out of it; "" if it is not there.
func Program(name string) string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	dirs = append(dirs, "/usr/sbin", "/sbin", "/usr/lib/qemu", "/usr/libexec")
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// Features lists every feature by name, in order, for `make env`.
func Features() []Feature {
	var all []Feature
	for f := range probes {
		all = append(all, f)
	}
	slices.Sort(all)
	return all
}

func skip(t testing.TB, why string) {
	t.Helper()
	if log := os.Getenv("VRAFS_SKIPLOG"); log != "" {
		if f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			_, _ = fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
			_ = f.Close()
		}
	}
	t.Skip(why)
}
