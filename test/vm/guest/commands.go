package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// A command takes its arguments as they came and gives a result to be sent.
type command func(args json.RawMessage) (any, error)

var commands map[guestapi.Command]command

func init() {
	commands = map[guestapi.Command]command{
		guestapi.Mount:     typed(doMount),
		guestapi.Unmount:   typed(doUnmount),
		guestapi.Compare:   typed(doCompare),
		guestapi.ReadAt:    typed(doReadAt),
		guestapi.Hold:      typed(doHold),
		guestapi.LetGo:     typed(doLetGo),
		guestapi.Mmap:      typed(doMmap),
		guestapi.Run:       typed(doRun),
		guestapi.DropCache: typed(doDropCache),
		guestapi.Rebind:    typed(doRebind),
		guestapi.Info:      typed(doInfo),
		guestapi.LoadStart: typed(doLoadStart),
		guestapi.LoadWait:  typed(doLoadWait),
		guestapi.LoadStop:  typed(doLoadStop),
		guestapi.FsxStart:  typed(doFsxStart),
		guestapi.FsxStop:   typed(doFsxStop),
		guestapi.Bench:     typed(doBench),
		guestapi.Write:     typed(doWrite),
		guestapi.Mkdir:     typed(doMkdir),
		guestapi.List:      typed(doList),
		guestapi.IDs:       typed(doIDs),
		guestapi.Reboot:    typed(doReboot),
		guestapi.PowerOff:  typed(doPowerOff),
	}
}

// nothing is the arguments or the result of a command that has none.
type nothing struct{}

func typed[A, R any](do func(A) (R, error)) command {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, fmt.Errorf("arguments: %w", err)
			}
		}
		return do(args)
	}
}

func mount(a guestapi.MountArgs) error {
	if err := os.MkdirAll(a.Path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(a.Source, a.Path, a.Type, uintptr(a.Flags), a.Data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", a.Type, a.Path, err)
	}
	return nil
}

func doMount(a guestapi.MountArgs) (nothing, error) { return nothing{}, mount(a) }

// doUnmount waits a moment for processes that still hold the mount: the kernel
// closes the files of one that has just ended after its parent heard of it.
func doUnmount(a guestapi.PathArgs) (nothing, error) {
	var err error
	for range 20 {
		if err = unix.Unmount(a.Path, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nothing{}, err
}

func doDropCache(nothing) (nothing, error) {
	unix.Sync()
	return nothing{}, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

func doWrite(a guestapi.WriteArgs) (nothing, error) {
	if err := os.MkdirAll(filepath.Dir(a.Path), 0o755); err != nil {
		return nothing{}, err
	}
	return nothing{}, os.WriteFile(a.Path, []byte(a.Data), 0o644)
}

func doMkdir(a guestapi.PathArgs) (nothing, error) { return nothing{}, os.MkdirAll(a.Path, 0o755) }

func doList(a guestapi.PathArgs) (r guestapi.ListResult, err error) {
	entries, err := os.ReadDir(a.Path)
	for _, e := range entries {
		r.Names = append(r.Names, e.Name())
	}
	slices.Sort(r.Names)
	return r, err
}

func doReboot(nothing) (nothing, error) {
	return nothing{}, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func doPowerOff(nothing) (nothing, error) {
	return nothing{}, unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
