package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testenv"
)

// stressors are stress-ng's that work on files, in groups that run at once. All of them
// pass on the host's ext4. Left out are those that reach for every mount of the host: io,
// which calls sync(2), and fanotify.
var stressors = []string{ // a stressor each, with its sizes
	"access chattr chdir,chdir-dirs=256 chmod chown dentry,dentries=256 dir,dir-dirs=256 dirdeep,dirdeep-inodes=2000 dirmany " +
		"file-ioctl filename fstat getdent handle inode-flags link mknod open rename symlink touch utime xattr",
	"aio aiol copy-file fallocate,fallocate-bytes=8m fpunch fsize hdd,hdd-bytes=8m iomix,iomix-bytes=8m mmap,mmap-file,mmap-bytes=8m " +
		"msync readahead,readahead-bytes=8m revio,revio-bytes=8m seek,seek-size=8m,seek-punch sendfile splice sync-file,sync-file-bytes=8m",
	"dnotify dup fcntl fiemap flock inotify lease locka lockf lockofd verity",
}

// notServed are the stressors that find that they can do nothing on a mount, and why.
var notServed = map[string]string{
	"fiemap": "Linux has no FIEMAP on FUSE",
	"verity": "no ioctl is served, as by nydusd",
}

// nameOf is the name of a stressor in a group.
func nameOf(stressor string) string {
	name, _, _ := strings.Cut(stressor, ",")
	return name
}

// stressorArgs is the command line of n workers for each stressor.
func stressorArgs(stressors []string, n int) (args []string) {
	for _, stressor := range stressors {
		name, options, _ := strings.Cut(stressor, ",")
		args = append(args, "--"+name, fmt.Sprint(n))
		for option := range strings.SplitSeq(options, ",") {
			if key, value, valued := strings.Cut(option, "="); valued {
				args = append(args, "--"+key, value)
			} else if key != "" {
				args = append(args, "--"+key)
			}
		}
	}
	return args
}

// stressorRan finds those in the file of metrics that did not skip themselves.
var stressorRan = regexp.MustCompile(`(?m)^ *- stressor: (\S+)$`)

// TestStressorsPassOnASharedDirectory has stress-ng do to a mount what programs can do to
// files and what they had better not, many at once; it checks what comes back.
func TestStressorsPassOnASharedDirectory(t *testing.T) {
	testenv.Need(t, testenv.StressNG)
	testenv.Long(t)
	seconds, workers := 2, 1
	if testenv.Soak() {
		seconds, workers = 120, 3
	}
	everyShare(t, func(t *testing.T, mount string) {
		for _, group := range stressors {
			stress(t, mount, strings.Fields(group), seconds, workers)
		}
		left, err := os.ReadDir(mount)
		left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == beside })
		if err != nil || len(left) != 0 {
			t.Errorf("%d files are left: %v, %v", len(left), left, err)
		}
	})
}

// stress runs stressors at once. On a busy machine the time is over before the last have
// begun: they run again, on their own.
func stress(t *testing.T, mount string, stressors []string, seconds, workers int) {
	t.Helper()
	const rounds = 4
	for range rounds {
		metrics := filepath.Join(t.TempDir(), "metrics")
		out := generate(t, seconds, "stress-ng", append(stressorArgs(stressors, workers), "--timeout", fmt.Sprint(seconds),
			"--temp-path", mount, "--verify", "--metrics-brief", "--yaml", metrics)...)
		var ran []string
		for _, m := range stressorRan.FindAllStringSubmatch(readText(t, metrics), -1) {
			if ran = append(ran, m[1]); notServed[m[1]] != "" {
				t.Errorf("%s ran after all (%s)\n%s", m[1], notServed[m[1]], out)
			}
		}
		stressors = slices.DeleteFunc(stressors, func(s string) bool {
			return notServed[nameOf(s)] != "" || slices.Contains(ran, nameOf(s))
		})
		if len(stressors) == 0 {
			return
		}
		t.Logf("not run: %q\n%s", stressors, out)
	}
	t.Errorf("%q did not run", stressors)
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDbenchRunsOnASharedDirectory has clients do what those of a file server did, which
// dbench has in a recording with every outcome; it ends at the first that differs.
func TestDbenchRunsOnASharedDirectory(t *testing.T) {
	testenv.Need(t, testenv.Dbench)
	testenv.Long(t)
	seconds := 4
	if testenv.Soak() {
		seconds = 300
	}
	everyShare(t, func(t *testing.T, mount string) {
		out := generate(t, seconds, "dbench", "--directory", mount, "--timelimit", fmt.Sprint(seconds), "4")
		if !strings.Contains(out, "\n WriteX ") || !strings.Contains(out, "\nThroughput ") {
			t.Errorf("it wrote nothing:\n%s", out)
		}
	})
}

// beside is where something else is mounted in the shared directory.
const beside = "beside"

// everyShare runs a test on mounts of shared directories: with writeback cache and
// something beside, so that workers write, and with neither.
func everyShare(t *testing.T, test func(t *testing.T, mount string)) {
	for _, writeback := range []string{"on", "off"} {
		t.Run("writeback_"+writeback, func(t *testing.T) {
			h := newHost(t)
			p := h.kept(t, "--keeper", "off", "--shared-dir", t.TempDir(), "--writable", "--writeback-cache", writeback)
			if writeback == "on" {
				p.must(204, "POST", "/api/v1/mount?mountpoint=/"+beside, shareBody(t.TempDir()))
			}
			test(t, h.dir)
			select {
			case <-p.done:
				t.Error("the server is gone")
			default:
			}
			if log := p.log(); strings.Contains(log, " ERROR ") {
				t.Errorf("the server logged\n%s", log)
			}
		})
	}
}

// generate runs a load generator for about so many seconds, to its end.
func generate(t *testing.T, seconds int, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Program(program), args...)
	cmd.WaitDelay = time.Second // its children may wait for a server that does not answer
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
