// Package vhostusertest is a vhost-user front-end with a guest behind it, for
// tests, fuzzing and benchmarks of back-ends.
//
//	Guest  memory (memfd), Rings (drivers, eventfds): outlives connections
//	  |
//	Conn   one connection: messages in any order, or Guest.Start with the
//	  |    order of QEMU, Cloud Hypervisor or crosvm
//	  v
//	Client FUSE requests over one Ring, any descriptor split, any depth
//
// Trust: a back-end is checked on every reply: flags, size and id of messages,
// the completions of rings (package virtqueuetest), and in Client the used
// length and the unique of each FUSE reply. What it does wrong is an error that
// wraps ErrBackEnd, never a panic.
//
// Concurrency: a Conn may be used by one goroutine at a time, as may a Ring and
// its Client; different Rings run side by side, also beside a Conn.
//
// Source: QEMU docs/interop/vhost-user.rst (10.2); the orders are those seen
// from QEMU 8.1 and Cloud Hypervisor 51, and crosvm's.
package vhostusertest
