// Package virtqueue is guest memory and virtio rings, device side.
//
//	split ring (virtio 1.2, 2.7)
//	  descriptor table        available ring             used ring
//	  [addr len flags next]   [flags|idx|ring..|ue]      [flags|idx|(id,len)..|ae]
//	  driver writes           driver writes              device writes
//
//	packed ring (virtio 1.2, 2.8)
//	  descriptor ring                 driver event       device event
//	  [addr len id flags]..           [off|wrap|flags]   [off|wrap|flags]
//	  driver and device write         driver writes      device writes
//
//	Space (current Memory, pins) -> Queue.Pop -> Chain -> ... -> Queue.Push, Queue.Flush
//
// Trust: none. The driver may change every byte of guest memory at any moment,
// and its owner may truncate the file below it. Code here loads a ring word
// once, through sync/atomic, and validates the private copy. Areas are checked
// whole when a ring is enabled, indices and lengths each time they are used. A
// goroutine that touches guest memory must have called debug.SetPanicOnFault and
// have a recover at its top: a truncated file becomes a fault there.
//
// Concurrency: one goroutine pops from a Queue; Push and Flush may be called
// from any. A Memory is immutable; a Space replaces it under running queues and
// waits only for those inside an epoch (Pin.Enter to Pin.Leave), which never
// spans a wait. No host address survives an epoch: a request that waits keeps
// its Segs and translates them again.
//
// Source: virtio 1.2 sections 2.6 to 2.8; vhost-user, "Inflight I/O tracking"
// and "Migration" (dirty log).
package virtqueue
