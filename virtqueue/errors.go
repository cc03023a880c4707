package virtqueue

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is the class of everything a driver can do wrong in a ring.
	// It is fatal for the queue: nothing popped later can be trusted.
	ErrCorrupt = errors.New("corrupt ring")
	// ErrUnmapped is the class of addresses outside the memory table.
	ErrUnmapped = errors.New("address not in guest memory")
	// ErrRegion is the class of refused memory regions.
	ErrRegion = errors.New("bad memory region")
	// ErrNoRing is returned by Enter and Pop while the ring's own areas are not in
	// the memory table. A later table may have them again.
	ErrNoRing = errors.New("ring not in guest memory")
)

// A RingError says which word of a ring is wrong. It wraps ErrCorrupt.
type RingError struct {
	Field string // for example "avail.idx"
	Value uint64 // the offending value as the driver wrote it
	Limit uint64 // what it has to obey, see Why
	Why   string
}

// Error formats the error as "field value: why limit".
func (e *RingError) Error() string {
	return fmt.Sprintf("%s %#x: %s %#x", e.Field, e.Value, e.Why, e.Limit)
}

// Unwrap returns ErrCorrupt.
func (e *RingError) Unwrap() error { return ErrCorrupt }

// An AddrError is an access outside the memory table. It wraps ErrUnmapped.
type AddrError struct {
	What string // for example "descriptor buffer", "used ring"
	Addr uint64
	Len  uint64
}

// Error formats the error as "what addr+len: address not in guest memory".
func (e *AddrError) Error() string {
	return fmt.Sprintf("%s %#x+%#x: %v", e.What, e.Addr, e.Len, ErrUnmapped)
}

// Unwrap returns ErrUnmapped.
func (e *AddrError) Unwrap() error { return ErrUnmapped }
