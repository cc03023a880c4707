// Package virtqueuetest is the driver side of virtio rings, for tests, fuzzing
// and benchmarks.
//
//	Arena (guest memory) -> New -> Driver.Add, Publish -> device -> Driver.Poll
//
// A Driver behaves as Linux does, with split and packed rings, indirect tables
// and the event index; Scribble makes it hostile.
//
// Trust: a Driver checks every completion against what it has in flight and
// reports a device that breaks the rules as an error.
//
// Concurrency: a Driver is used by one goroutine; Scribble may run in another.
// Words that the device loads atomically are stored atomically here, so that
// the race detector sees the ordering that the ring protocol gives.
//
// Source: virtio 1.2 sections 2.7 and 2.8.
package virtqueuetest
