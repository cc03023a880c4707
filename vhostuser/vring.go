package vhostuser

import "vrafs/virtqueue"

// A Vring is one ring of a connection.
type Vring struct {
	index int
	space *virtqueue.Space
	q     *virtqueue.Queue
}

// Index returns the ring's number; for virtio-fs 0 is the hiprio queue.
func (v *Vring) Index() int { return v.index }

// Size returns the number of ring entries: heads are below it.
func (v *Vring) Size() int { return v.q.Size() }

// Space returns the device's guest memory. A worker makes itself a Pin there.
func (v *Vring) Space() *virtqueue.Space { return v.space }

// Push completes the chain at head, see virtqueue.Queue.Push; the driver sees it
// when the ring's goroutine has drained the ring, or at Flush.
func (v *Vring) Push(head uint16, writable []virtqueue.Seg, written uint32) {
	v.q.Push(head, writable, written)
}

// Flush publishes what was pushed and calls the driver if it wants that.
func (v *Vring) Flush() {
	if v.q.Flush() {
		v.call()
	}
}

// Complete is Push and Flush: how a worker completes a chain. It may be called
// from any goroutine, outside epochs.
func (v *Vring) Complete(head uint16, writable []virtqueue.Seg, written uint32) {
	v.Push(head, writable, written)
	v.Flush()
}

func (v *Vring) call() {}
