package passthrough

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kinds of creation.
const (
	makeFile = iota
	makeTemp
	makeDir
	makeNode
	makeLink
)

// A creation is a call that makes something in a directory, as the caller would: with
// its user, group and one more group, and with the mode that it says.
type creation struct {
	what   int
	dir    int
	name   *cname
	mode   uint32
	rdev   uint32
	flags  uint64 // of makeFile and makeTemp
	target []byte // of makeLink, with its NUL
	who    caller

	fd int // what makeFile and makeTemp opened
}

// run makes it, in this thread, whose umask is not looked at.
func (c *creation) run() syscall.Errno {
	if c.who.isUs() {
		return c.call()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer c.who.resign() // first, while the thread is ours
	if e := c.who.assume(); e != 0 {
		return e
	}
	e := c.call()
	if e != unix.EACCES && e != unix.EPERM {
		return e
	}
	// The guest's kernel has checked what the caller may. The host's knows less: only
	// one of the caller's groups, and not its capabilities.
	if !c.who.privilege() {
		return e
	}
	return c.call()
}

func (c *creation) call() (e syscall.Errno) {
	c.fd = -1
	switch c.what {
	case makeFile:
		c.fd, e = openAt(c.dir, c.name, c.flags, uint64(c.mode&0o7777))
	case makeTemp:
		c.fd, e = openAt(c.dir, &here, c.flags|unix.O_TMPFILE, uint64(c.mode&0o7777))
	case makeDir:
		e = mkdirAt(c.dir, c.name, c.mode&0o7777)
	case makeNode:
		e = mknodAt(c.dir, c.name, c.mode, c.rdev)
	case makeLink:
		e = symlinkAt(c.target, c.dir, c.name)
	}
	return e
}

// here is the name of the directory itself.
var here = cname{'.'}

// A creator makes things whose mode the umask of this process would change. The umask
// belongs to the process, which makes files of its own: only a thread that has left the
// rest in this (CLONE_FS) can have another.
type creator struct {
	umask uint32
	jobs  chan *creation
	done  chan syscall.Errno
	mu    sync.Mutex // one job at a time
	wg    sync.WaitGroup
}

// init finds out about the umask.
func (c *creator) init(status *os.File) error {
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "Umask:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
			c.umask = uint32(n)
			return err
		}
	}
	return fmt.Errorf("%w: %s has no umask", ErrHost, status.Name())
}

// run makes what cr says, with its whole mode.
func (c *creator) run(cr *creation) syscall.Errno {
	if cr.mode&c.umask == 0 || cr.what == makeLink {
		return cr.run()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jobs == nil {
		c.jobs, c.done = make(chan *creation), make(chan syscall.Errno)
		c.wg.Go(c.work)
	}
	c.jobs <- cr
	return <-c.done
}

// work makes things in a thread with a umask of its own, which ends with it.
func (c *creator) work() {
	runtime.LockOSThread() // for good: nobody else may get this thread
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		unix.Umask(0)
	}
	for cr := range c.jobs {
		if err != nil {
			c.done <- errnoIn(err)
			continue
		}
		c.done <- cr.run()
	}
}

func (c *creator) close() {
	if c.jobs != nil {
		close(c.jobs)
	}
	c.wg.Wait()
}
