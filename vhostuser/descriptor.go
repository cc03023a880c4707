package vhostuser

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// closeFD closes fd unless it is negative.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // nothing can be done, and Linux frees it anyway
	}
}

// fileType returns the S_IFMT bits of a descriptor, 0 for anonymous inodes. It
// does not ask a file's server, which may never answer.
func fileType(fd int) (uint16, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return 0, fmt.Errorf("statx: %w", err)
	}
	return st.Mode & unix.S_IFMT, nil
}

// discard closes a descriptor that a peer sent and nobody has looked at. Closing
// a file of a FUSE server waits for that server, so it is left to the reaper
// unless the file is of a kind that a front-end sends.
func discard(fd int) {
	if fd < 0 {
		return
	}
	kind, err := fileType(fd)
	_, notSealed := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err == nil && (kind == 0 || kind == unix.S_IFIFO || kind == unix.S_IFSOCK) || notSealed == nil {
		closeFD(fd)
		return
	}
	reap.add(fd)
}

// maxStuck is how many descriptors may wait for the reaper before front-ends
// that send more are hung up on.
const maxStuck = 64

// reap is the process's reaper: one stuck thread is enough.
var reap reaper

// A reaper closes descriptors one after another in a goroutine that lives while
// there are any. Nobody waits for it: a close may never return.
type reaper struct {
	mu    sync.Mutex
	queue []int // the first is being closed
}

func (r *reaper) add(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue = append(r.queue, fd); len(r.queue) == 1 {
		go r.run()
	}
}

func (r *reaper) run() {
	for fd := r.next(-1); fd >= 0; fd = r.next(fd) {
		closeFD(fd)
	}
}

// next takes the closed descriptor out, unless negative, and returns the next
// one, -1 if there is none.
func (r *reaper) next(closed int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if closed >= 0 {
		r.queue = r.queue[1:]
	}
	if len(r.queue) == 0 {
		r.queue = nil
		return -1
	}
	return r.queue[0]
}

// stuck returns how many descriptors wait.
func (r *reaper) stuck() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}
