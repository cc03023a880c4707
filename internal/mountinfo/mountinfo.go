// Package mountinfo says what is mounted where, without touching it: a file system
// whose server is dead or hangs would hold whoever asks it.
//
//	path --Place--> as the kernel has it --Device--> /proc/self/mountinfo
//
// Trust: the kernel's list is trusted; paths are the user's. Concurrency: everything
// may be called from any goroutine. Source: proc_pid_mountinfo(5).
package mountinfo

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"vrafs/internal/opener"
)

// Place gives the path of a mountpoint as the kernel has it: absolute, and without
// links on the way. It doesn't ask for the mountpoint itself, which may be dead.
func Place(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

// Device gives the minor device number of what is mounted last on dir, a path as
// Place gives it. It is EINVAL if nothing is.
func Device(o opener.Opener, dir string) (minor uint32, err error) {
	f, err := o.Open("/proc/self/mountinfo", os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found := false
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// id parent major:minor root mountpoint options ... - type source options
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || unescape(fields[4]) != dir {
			continue
		}
		_, text, _ := strings.Cut(fields[2], ":")
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("/proc/self/mountinfo: %w", err)
		}
		minor, found = uint32(n), true
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	if !found {
		return 0, syscall.EINVAL
	}
	return minor, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
