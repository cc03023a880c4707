package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
)

// setProcs gives every goroutine that may block in the kernel or burn CPU a P of
// its own, once; this also stops Go from following the cgroup's CPU quota.
func setProcs(queues, decompressors uint) {
	runtime.GOMAXPROCS(int(queues + decompressors + 2))
}

// Shares of a cgroup's memory for our heap: the guest and the page cache need
// the rest.
const (
	heapShare = 4
	minHeap   = 32 << 20
	maxHeap   = 512 << 20
)

// setMemoryLimit sets the soft limit of the heap: want, or GOMEMLIMIT if the
// environment has it, or a share of the cgroup's memory.
func setMemoryLimit(o opener.Opener, want uint64) {
	switch {
	case want > 0:
		debug.SetMemoryLimit(int64(min(want, math.MaxInt64)))
	case os.Getenv("GOMEMLIMIT") != "":
	default:
		if limit, ok := cgroupMemory(o, "/"); ok {
			debug.SetMemoryLimit(int64(min(max(limit/heapShare, minHeap), maxHeap)))
		}
	}
}

// cgroupMemory is the least memory limit of this process's cgroup and its
// ancestors, below the root directory of the file system.
func cgroupMemory(o opener.Opener, root string) (uint64, bool) {
	text, err := readSmall(o, filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0, false
	}
	limit := uint64(math.MaxUint64)
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		switch {
		case part[0] == "0":
			limit = min(limit, leastAbove(o, filepath.Join(root, "sys/fs/cgroup"), part[2], "memory.max"))
		case part[1] == "memory":
			limit = min(limit, leastAbove(o, filepath.Join(root, "sys/fs/cgroup/memory"), part[2], "memory.limit_in_bytes"))
		}
	}
	// Version 1 says "no limit" by a number near 2^63.
	return limit, limit < math.MaxInt64/2
}

// leastAbove is the least number in the files called name from dir under top
// upwards.
func leastAbove(o opener.Opener, top, dir, name string) uint64 {
	least := uint64(math.MaxUint64)
	for dir = filepath.Clean("/" + dir); ; dir = filepath.Dir(dir) {
		if text, err := readSmall(o, filepath.Join(top, dir, name)); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil {
				least = min(least, n)
			}
		}
		if dir == "/" {
			return least
		}
	}
}

// readSmall reads a file of the kernel's.
func readSmall(o opener.Opener, path string) (string, error) {
	f, err := o.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(p), err
}

// raiseOpenFiles sets RLIMIT_NOFILE to want, but to no more than the kernel has
// files to give. It is an error only if the kernel has next to none; a limit
// that may not be raised is a warning.
func raiseOpenFiles(o opener.Opener, log *slog.Logger, want uint64) error {
	const reserved, most = 16384, 1_000_000
	if want == 0 {
		return nil
	}
	text, err := readSmall(o, "/proc/sys/fs/file-max")
	if err != nil {
		return fmt.Errorf("rlimit-nofile: %w", err)
	}
	fileMax, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return fmt.Errorf("rlimit-nofile: fs.file-max: %w", err)
	}
	if fileMax < 2*reserved {
		return fmt.Errorf("rlimit-nofile: fs.file-max is %d; raise it to at least %d, or give --rlimit-nofile 0", fileMax, 2*reserved)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		return fmt.Errorf("rlimit-nofile: %w", err)
	}
	highest := max(min(fileMax-reserved, most), old.Cur)
	target := min(want, highest)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: target, Max: target}); err != nil {
		target = min(want, old.Max)
		log.Warn("may not raise the number of open files", "want", want, "have", target, "err", err)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: target, Max: old.Max}); err != nil {
			return nil // the limit stays as it was
		}
	}
	log.Info(fmt.Sprintf("Set rlimit-nofile to %d, maximum %d", target, highest))
	return nil
}
