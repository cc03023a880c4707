package daemon

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// errCutShort says that a mapped bootstrap was truncated by its owner.
var errCutShort = errors.New("the bootstrap was cut short while it was read")

// guarded runs f, which reads a mapped bootstrap, as the top of a goroutine's work
// does: a fault ends the work with an error, not the daemon.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = errCutShort
		default:
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
