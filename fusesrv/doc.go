// Package fusesrv is the FUSE protocol, server side: decode a request, call an
// FS, encode the reply. It knows neither the transport nor the file system.
//
//	request                                  reply
//	[InHeader 40][arguments][names][data]    [OutHeader 16][result][data]
//	in any split of bytes                    into any split of bytes
//
//	transport (virtiofs ring, devfuse loop)         Server                    FS
//	  Handle(worker, request, in, out) ---> opcode table ---> Lookup, Read, ...
//	     n bytes written             <----- done or errno <----- 0, errno
//	     pending                     <----- request kept  <----- Pending + Task
//	  on a worker goroutine:
//	     Wait(request)               ---> Task.Wait      blocks, touches no buffer
//	     Finish(worker, request, in, out) -> Task.Finish  buffers are mapped again
//
// A call ends in one of three ways: done, an errno, or pending. A Request is
// allocated by the transport, one per ring head, and is all that outlives a
// pending call; a Worker is the scratch memory of one serving goroutine. A call
// that does not become pending allocates nothing.
//
// Trust: none. Every length, node id, offset and name comes from a guest. The
// header and the arguments are copied out once before they are looked at; data
// is not parsed here. Buffers may be guest memory, so a goroutine that calls
// Handle or Finish is prepared for faults (debug.SetPanicOnFault and a recover).
//
// Concurrency: a Server serves any number of goroutines, each with a Worker of
// its own. FS methods are called from all of them at once. Handle never waits
// for another request; only Wait does.
//
// Source: Linux include/uapi/linux/fuse.h, protocol 7.45.
package fusesrv
