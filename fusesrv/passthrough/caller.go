package passthrough

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// A caller is on whose behalf something is made.
type caller struct {
	uid, gid uint32
	group    uint32 // one more of its groups
	hasGroup bool
}

// extGroups is the type of the extension that carries groups (FUSE_EXT_GROUPS).
const extGroups = 32

// callerOf reads the caller out of a request. Without privileges everything is made as
// ourselves.
func callerOf(r *fusesrv.Request) (caller, syscall.Errno) {
	if !privileged {
		return caller{ourUID, ourGID, 0, false}, 0
	}
	const nobody = ^uint32(0) // of an idmapped mount, or a user without a number here
	c := caller{uid: r.Header.UID, gid: r.Header.GID}
	if c.uid == nobody || c.gid == nobody {
		return c, unix.EOVERFLOW
	}
	const head = 8
	for ext := r.Ext; len(ext) >= head; {
		size, kind := binary.LittleEndian.Uint32(ext), binary.LittleEndian.Uint32(ext[4:])
		if size < head || uint64(size) > uint64(len(ext)) {
			return c, unix.EINVAL
		}
		body := ext[head:size]
		if kind == extGroups && len(body) >= 8 && binary.LittleEndian.Uint32(body) >= 1 {
			c.group, c.hasGroup = binary.LittleEndian.Uint32(body[4:]), true
		}
		ext = ext[min((uint64(size)+7)&^7, uint64(len(ext))):]
	}
	return c, 0
}

var (
	ourUID, ourGID = uint32(os.Geteuid()), uint32(os.Getegid())
	ourGroups, _   = unix.Getgroups()
	// privileged says that this process can act for others.
	privileged = ourUID == 0
)

// isUs reports whether the caller is this process's user.
func (c *caller) isUs() bool { return c.uid == ourUID && c.gid == ourGID && !c.hasGroup }

// assume makes this thread, which is locked, act as the caller in file systems. The
// kernel takes the capabilities about files away from any user but root. resign undoes
// it, also after an error.
func (c *caller) assume() syscall.Errno {
	if c.hasGroup {
		if e := setGroups([]uint32{c.group}); e != 0 {
			return e
		}
	}
	if e := become(unix.SYS_SETFSGID, c.gid); e != 0 {
		return e
	}
	return become(unix.SYS_SETFSUID, c.uid)
}

// resign makes this thread act for itself again.
func (c *caller) resign() {
	insist(func() bool { return become(unix.SYS_SETFSUID, ourUID) == 0 })
	insist(func() bool { return become(unix.SYS_SETFSGID, ourGID) == 0 })
	if c.hasGroup {
		insist(func() bool { return restoreGroups() == 0 })
	}
}

// insist does what only a lack of memory keeps from being done. A thread that is still
// another's must not go on.
func insist(do func() bool) {
	for !do() {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

// become is setfsuid(2) or setfsgid(2), which do not say whether they worked.
func become(call uintptr, id uint32) syscall.Errno {
	_, _, _ = unix.RawSyscall(call, uintptr(id), 0, 0)
	now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0)
	if uint32(now) != id {
		return unix.EPERM
	}
	return 0
}

// overrides are the capabilities with which a call is tried again that the host refused.
const overrides = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_MKNOD

// privilege gives this thread, which acts for another, capabilities about files. They go
// when it resigns: root's are then as they were.
func (c *caller) privilege() bool { return changeCaps(overrides, 0) == nil }

// changeCaps sets and clears effective capabilities of this thread.
func changeCaps(set, clear uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective = (data[0].Effective | set&data[0].Permitted) &^ clear
	return unix.Capset(&header, &data[0])
}

// A killer takes set-id bits off a file that is changed, as the kernel does for callers
// who may not keep them: it takes the capability to keep them from this thread.
type killer struct{ on bool }

// begin locks the thread if the file has such bits.
func (k *killer) begin(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return
	}
	runtime.LockOSThread()
	k.on = changeCaps(0, 1<<unix.CAP_FSETID) == nil
	if !k.on {
		runtime.UnlockOSThread()
	}
}

// end unlocks it.
func (k *killer) end() {
	if !k.on {
		return
	}
	insist(func() bool { return changeCaps(1<<unix.CAP_FSETID, 0) == nil })
	runtime.UnlockOSThread()
}

// open opens a regular file once more, as far as the caller may.
func (c *caller) open(f *FS, fd int, flags uint64) (int, syscall.Errno) {
	if c.isUs() {
		return f.reopen(fd, flags)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer c.resign()
	if e := c.assume(); e != 0 {
		return -1, e
	}
	return f.reopen(fd, flags)
}
