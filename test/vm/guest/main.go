// Command guest is the first and only program of a test guest: it mounts what a
// program needs, loads the kernel's modules and then does what the host asks for
// over a serial line (package guestapi).
//
//	kernel -> /init -> mounts, modules -> hello -> command, answer, command, ...
//
// A panic here ends process 1, so the kernel's panic on the console shows it.
//
// Trust: the host is the tests' own. Concurrency: commands run one after another;
// only what LoadStart and FsxStart begin runs beside them. Source: package guestapi.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func main() {
	if os.Getpid() != 1 {
		// Started from an image, to show that programs run from it.
		fmt.Println(strings.Join(os.Args, " "))
		return
	}
	// The line breaks in the end, so there always is an error.
	fmt.Fprintln(os.Stderr, "guest:", run())
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if err := mountBasics(); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	port, err := os.OpenFile(guestapi.Port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := term.MakeRaw(int(port.Fd())); err != nil {
		return err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	return serve(port, strings.TrimSpace(string(release)))
}

// serve answers commands until the line breaks.
func serve(port io.ReadWriter, release string) error {
	out := json.NewEncoder(port)
	if err := out.Encode(guestapi.Reply{Hello: release}); err != nil {
		return err
	}
	in := bufio.NewReader(port)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if err := out.Encode(answer(line)); err != nil {
			return err
		}
	}
}

// answer executes one line.
func answer(line []byte) (r guestapi.Reply) {
	var req guestapi.Request
	if err := json.Unmarshal(line, &req); err != nil {
		return guestapi.Reply{Error: err.Error()}
	}
	do := commands[req.Cmd]
	if do == nil {
		return guestapi.Reply{Error: "no such command"}
	}
	result, err := do(req.Args)
	if err != nil {
		return guestapi.Reply{Error: err.Error()}
	}
	if r.Result, err = json.Marshal(result); err != nil {
		return guestapi.Reply{Error: err.Error()}
	}
	return r
}

func mountBasics() error {
	for _, m := range []guestapi.MountArgs{
		{Source: "devtmpfs", Path: "/dev", Type: "devtmpfs"},
		{Source: "proc", Path: "/proc", Type: "proc"},
		{Source: "sysfs", Path: "/sys", Type: "sysfs"},
		{Source: "tmpfs", Path: "/tmp", Type: "tmpfs", Data: "size=" + guestapi.MemLimit},
	} {
		if err := mount(m); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

func loadModules() error {
	list, err := os.ReadFile(guestapi.Modules)
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(filepath.Join(filepath.Dir(guestapi.Modules), name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}
