// Package vhostuser is the vhost-user protocol, back-end side, over one Unix
// socket.
//
//	front-end                          back-end
//	[request flags size][payload] -->  +fds on the first byte of the header
//	<-- [request flags|4 size][payload]
//
//	Serve (control goroutine: messages in, replies out, one at a time)
//	  +-- Vring 0 goroutine: ppoll{kick, wake} -> Pop -> QueueHandler.Handle -> Flush -> call
//	  +-- Vring 1 ...
//
// Trust: the front-end is trusted for which memory to map and for nothing else;
// any message may be malformed and any descriptor surplus. Rings are judged by
// package virtqueue: a corrupt one stops that queue and signals its error
// descriptor. Descriptors received are close-on-exec, are owned from the moment
// of receipt and never have O_NONBLOCK changed.
//
// Concurrency: Serve runs one connection; every goroutine it starts has ended
// when it returns. Lock order: Vring.mu, then those inside virtqueue.Queue.
//
// Source: QEMU docs/interop/vhost-user.rst (10.2), virtio 1.2.
package vhostuser

import (
	"io"

	"vrafs/virtqueue"
)

// A Device is what the queues belong to. Its methods but StartQueue's handlers
// are called from one goroutine, that of Serve. A Device outlives connections:
// a front-end that went away may come back and go on with the same guest, so
// only Reset ends a session.
type Device interface {
	// Properties says what the device offers. It is asked once per connection.
	Properties() Properties
	// StartQueue is called when a ring starts and returns who serves it.
	StartQueue(v *Vring) QueueHandler
	// Reset is called after the device was reset (RESET_DEVICE, or SET_STATUS 0)
	// and all its queues have stopped.
	Reset()
	// SaveState writes the device's state for migration; all queues have stopped.
	SaveState(w io.Writer) error
	// LoadState reads what SaveState of another process wrote.
	LoadState(r io.Reader) error
}

// A QueueHandler serves one ring from its start until its stop.
type QueueHandler interface {
	// Handle serves one chain. It runs on the ring's own goroutine inside an
	// epoch: the host views c.In and c.Out are good until it returns, and it must
	// not wait for anything but local memory and files. It either pushes the
	// chain (v.Push) or keeps what it needs of c, by copying, and has it pushed
	// later by another goroutine (v.Complete). Pushed chains are published, with
	// one call for many, when the ring is drained.
	Handle(c *virtqueue.Chain)
	// Abort asks that every chain still kept be completed at once, with an error
	// if need be. The ring is about to stop: Handle runs no more. Abort does not
	// wait for the completions.
	Abort()
	// Unrepeatable is how many of the chains still kept may be served only once. The
	// others another process may serve anew while nobody completes them here. It is
	// asked when Handle does not run.
	Unrepeatable() int
	// Close is called last. Chains still kept are lost to the guest, and pushing
	// them does nothing.
	Close()
}

// Properties is what a device offers.
type Properties struct {
	// Queues is the number of rings, for virtio-fs 1 hiprio + N request queues.
	Queues int
	// Config is the device's configuration space; the CONFIG protocol feature is
	// offered only if it is not empty.
	Config []byte
	// Migratable offers DEVICE_STATE.
	Migratable bool
}
