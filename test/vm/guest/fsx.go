package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"vrafs/internal/testfsx"
	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// An fsx is random operations that run beside the commands.
type fsx struct {
	stop atomic.Bool
	wg   sync.WaitGroup
	held *os.File // has no name
	ops  atomic.Int64
	mu   sync.Mutex
	errs []string
}

var exercising *fsx

// fsxOps is how many operations one file sees before the next.
const fsxOps = 200

// heldText is what the file without a name holds.
var heldText = bytes.Repeat([]byte("open and without a name\n"), 1000)

func doFsxStart(a guestapi.FsxArgs) (nothing, error) {
	if exercising != nil {
		return nothing{}, errors.New("random operations are under way")
	}
	x := &fsx{}
	if err := x.hold(filepath.Join(a.Path, "held")); err != nil {
		return nothing{}, err
	}
	for i := range a.Files {
		x.wg.Add(1)
		go func() {
			defer x.wg.Done()
			x.run(filepath.Join(a.Path, fmt.Sprint("fsx-", i)), uint64(i)<<32)
		}()
	}
	exercising = x
	return nothing{}, nil
}

// hold makes the file without a name, locked.
func (x *fsx) hold(path string) (err error) {
	if x.held, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	if _, err := x.held.Write(heldText); err != nil {
		return err
	}
	return errors.Join(x.held.Sync(), unix.Flock(int(x.held.Fd()), unix.LOCK_EX|unix.LOCK_NB), os.Remove(path))
}

// check reads the file without a name past the page cache.
func (x *fsx) check() error {
	fd := int(x.held.Fd())
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	got := make([]byte, len(heldText)+1)
	n, err := unix.Pread(fd, got, 0)
	if err == nil && !bytes.Equal(got[:n], heldText) {
		err = fmt.Errorf("%d bytes, not the %d that were written", n, len(heldText))
	}
	if err != nil {
		return fmt.Errorf("the file without a name: %w", err)
	}
	return x.held.Close()
}

func (x *fsx) run(path string, seed uint64) {
	for ; !x.stop.Load(); seed++ {
		done, err := testfsx.Run(path, testfsx.Options{Ops: fsxOps, Seed: seed})
		for _, n := range done {
			x.ops.Add(int64(n))
		}
		if err != nil {
			x.failed(err)
			return
		}
	}
}

func (x *fsx) failed(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.errs = append(x.errs, err.Error())
}

func doFsxStop(nothing) (guestapi.FsxResult, error) {
	x := exercising
	if x == nil {
		return guestapi.FsxResult{}, errors.New("no random operations are under way")
	}
	exercising = nil
	x.stop.Store(true)
	x.wg.Wait()
	if err := x.check(); err != nil {
		x.failed(err)
	}
	return guestapi.FsxResult{Ops: x.ops.Load(), Errors: x.errs}, nil
}
