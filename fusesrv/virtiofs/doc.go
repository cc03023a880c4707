// Package virtiofs is the virtio-fs device: queues of virtqueue served by a
// fusesrv.Server behind a vhostuser connection.
//
//	ring goroutine (vhostuser.Vring)          workers, at most Options.Workers
//	  Handle(chain)
//	    Server.Handle --done--> Push
//	         | pending: guest addresses kept in a slot
//	         +--------- submit --------->  Server.Wait      no guest memory
//	                                       Enter, Translate  a new epoch
//	                                       Server.Finish
//	                                       Leave, Complete
//
//	queue 0            hiprio: FORGET; nothing on it waits
//	queue 1..N         requests
//
// A request that waits keeps guest physical addresses only: they are translated
// again in the memory table of the day, and if they are gone from it the chain is
// completed with length 0. How many requests wait is bounded by the rings, how
// many are fetched for at once by Options.Workers and Options.MaxBytes.
//
// Trust: none. Rings are judged by virtqueue, requests by fusesrv. Worker
// goroutines touch guest memory and are prepared for faults, which break the ring
// (Vring.Fault).
//
// Concurrency: a Device serves one connection at a time. Workers start when there
// is something to do and end when there is not; Close waits for them. Lock order:
// queue.mu, pool.mu, none of them held while a request is served.
//
// Source: virtio 1.2, 5.11; vhost-user-fs 3.
package virtiofs
