package passthrough_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
)

// locks are the ways to lock a file of a descriptor and to unlock it.
var locks = map[string]func(fd int, kind int16, wait bool) error{
	"fcntl": func(fd int, kind int16, wait bool) error {
		return lockRange(fd, kind, unix.F_SETLK, unix.F_SETLKW, wait)
	},
	"ofd": func(fd int, kind int16, wait bool) error {
		return lockRange(fd, kind, unix.F_OFD_SETLK, unix.F_OFD_SETLKW, wait)
	},
	"flock": func(fd int, kind int16, wait bool) error {
		how := unix.LOCK_EX
		if kind == unix.F_UNLCK {
			how = unix.LOCK_UN
		}
		if !wait {
			how |= unix.LOCK_NB
		}
		return unix.Flock(fd, how)
	},
}

func lockRange(fd int, kind int16, try, block int, wait bool) error {
	cmd := try
	if wait {
		cmd = block
	}
	return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
}

// lockAndHold is a child that locks a file, says so, and keeps the lock until its input
// ends. With "try" it waits for nobody.
func lockAndHold(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = locks[args[1]](int(f.Fd()), unix.F_WRLCK, args[2] != "try")
	if errors.Is(err, unix.EAGAIN) {
		fmt.Println("refused")
		return nil
	} else if err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// countLocked is a child that adds to the number in a file, which others do too.
func countLocked(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	lock, fd := locks[args[1]], int(f.Fd())
	times, err := strconv.Atoi(args[2])
	var b [8]byte
	for range times {
		if err = lock(fd, unix.F_WRLCK, true); err != nil {
			return err
		}
		if _, err = f.ReadAt(b[:], 0); err != nil {
			return err
		}
		binary.NativeEndian.PutUint64(b[:], binary.NativeEndian.Uint64(b[:])+1)
		if _, err = f.WriteAt(b[:], 0); err != nil {
			return err
		}
		if err = lock(fd, unix.F_UNLCK, true); err != nil {
			return err
		}
	}
	return err
}

// A holder is a lockAndHold that runs.
type holder struct {
	cmd   *exec.Cmd
	says  chan string // a line, then closed
	ended chan struct{}
}

func hold(t *testing.T, file, kind, how string) *holder {
	t.Helper()
	h := &holder{cmd: exec.Command(os.Args[0], file, kind, how), says: make(chan string, 1), ended: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), childEnv+"=hold")
	h.cmd.Stderr = os.Stderr
	in, err := h.cmd.StdinPipe() // ends with this process, or with Wait
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		line, _ := bufio.NewReader(out).ReadString('\n')
		h.says <- line
		close(h.says)
		_ = h.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = in.Close()
		h.kill(t)
	})
	return h
}

// kill kills it, and waits until it is gone.
func (h *holder) kill(t *testing.T) {
	t.Helper()
	_ = h.cmd.Process.Kill()
	select {
	case <-h.ended:
	case <-time.After(30 * time.Second):
		t.Error("it can't be killed")
	}
}

// wait waits for what it says.
func (h *holder) wait(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-h.says:
		if got != want+"\n" {
			t.Fatalf("said %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("did not say %q", want)
	}
}

// TestLocksAreTheKernels has processes contend for locks of each kind. None is served, as
// by nydusd (section 5 of its description): the kernel of a mount has them all.
func TestLocksAreTheKernels(t *testing.T) {
	for name, flags := range map[string]fusesrv.InitFlags{"plain": 0, "writeback": fusesrv.WritebackCache} {
		for kind := range locks {
			t.Run(name+"_"+kind, func(t *testing.T) {
				file := filepath.Join(serve(t, t.TempDir(), flags, passthrough.Options{}).mount(t), "file")
				runChild(t, "make", file)
				contend(t, file, kind)
				count(t, file, kind)
			})
		}
	}
}

func contend(t *testing.T, file, kind string) {
	t.Helper()
	first := hold(t, file, kind, "wait")
	first.wait(t, "locked")
	hold(t, file, kind, "try").wait(t, "refused")
	second, third := hold(t, file, kind, "wait"), hold(t, file, kind, "wait")
	select {
	case <-second.says:
		t.Fatal("two have the lock, or one gave up")
	case <-third.says:
		t.Fatal("two have the lock, or one gave up")
	case <-time.After(100 * time.Millisecond):
	}
	third.kill(t) // while it waits
	<-third.says
	first.kill(t) // with the lock
	second.wait(t, "locked")
	second.kill(t)
}

func count(t *testing.T, file, kind string) {
	t.Helper()
	const processes = 3
	times := testenv.Rounds(5000)
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], file, kind, strconv.Itoa(times))
			cmd.Env = append(os.Environ(), childEnv+"=count")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	cmd := exec.Command("cat", file)
	if b, err := cmd.Output(); err != nil || len(b) != 8 || binary.NativeEndian.Uint64(b) != uint64(processes*times) {
		t.Errorf("%v in the file, %v; want %d", b, err, processes*times)
	}
}

// makeCounter is a child that makes a file with the number 0.
func makeCounter(args []string) error { return os.WriteFile(args[0], make([]byte, 8), 0o600) }

// TestLocksAreNotAgreedOn sends what a guest asks that believes otherwise. No answer says
// that it has a lock.
func TestLocksAreNotAgreedOn(t *testing.T) {
	c := fusesrvtest.NewDirect(t, serve(t, t.TempDir(), 0, passthrough.Options{}).server)
	agreed, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags)
	if err != nil || fusesrv.InitFlags(agreed.Flags)&(fusesrv.PosixLocks|fusesrv.FlockLocks) != 0 {
		t.Errorf("agreed on %+v, %v", agreed, err)
	}
	o, err := fusesrvtest.Create(c, fusesrv.RootID, "file", unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []fusesrv.Opcode{fusesrv.OpGetlk, fusesrv.OpSetlk, fusesrv.OpSetlkw} {
		in := fusesrv.LkIn{FH: o.Open.FH, Lock: fusesrv.FileLock{Type: unix.F_WRLCK}}
		if _, err := c.Call(op, o.Entry.NodeID, fusesrvtest.Args(t, in), 24); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("%v: %v", op, err)
		}
	}
}
