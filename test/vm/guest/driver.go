package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

const driverDir = "/sys/bus/virtio/drivers/" + guestapi.Driver

// doRebind takes every device away from the driver and gives it back: the driver
// resets the device and sets up its queues anew.
func doRebind(nothing) (nothing, error) {
	devices, err := filepath.Glob(driverDir + "/virtio*")
	if err != nil || len(devices) == 0 {
		return nothing{}, errors.Join(err, fmt.Errorf("no device below %s", driverDir))
	}
	for _, d := range devices {
		for _, action := range []string{"unbind", "bind"} {
			if err := os.WriteFile(filepath.Join(driverDir, action), []byte(filepath.Base(d)), 0); err != nil {
				return nothing{}, fmt.Errorf("%s %s: %w", action, filepath.Base(d), err)
			}
		}
	}
	return nothing{}, nil
}

func doInfo(nothing) (r guestapi.InfoResult, err error) {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return r, err
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return r, err
	}
	r = guestapi.InfoResult{
		Release: strings.TrimSpace(string(release)), CPUs: runtime.NumCPU(),
		MemBytes: si.Totalram * uint64(si.Unit), Uptime: time.Duration(si.Uptime) * time.Second,
	}
	lists, _ := filepath.Glob("/sys/fs/virtiofs/*/mqs/*/cpu_list")
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			return r, err
		}
		r.Queues = append(r.Queues, strings.TrimSpace(string(b)))
	}
	r.Interrupts, err = interrupts()
	return r, err
}

// interrupts adds up the lines of /proc/interrupts that belong to virtio queues.
func interrupts() (map[string]int64, error) {
	f, err := os.Open("/proc/interrupts")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	counts := map[string]int64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 3 || !strings.HasPrefix(fields[len(fields)-1], "virtio") {
			continue
		}
		var sum int64
		for _, f := range fields[1:] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				break
			}
			sum += n
		}
		counts[fields[len(fields)-1]] = sum
	}
	return counts, nil
}
