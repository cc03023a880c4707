package passthrough

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setGroups is setgroups(2) of this thread alone, which package unix would do to all.
func setGroups(list []uint32) syscall.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(list)), uintptr(unsafe.Pointer(unsafe.SliceData(list))), 0)
	return e
}

// restoreGroups gives this thread the process's groups.
func restoreGroups() syscall.Errno {
	list := make([]uint32, 0, len(ourGroups))
	for _, g := range ourGroups {
		list = append(list, uint32(g))
	}
	return setGroups(list)
}
