// Package devfuse is the /dev/fuse transport: it mounts a directory of this host and
// serves the kernel's requests with a fusesrv.Server.
//
//	Mount --> Conn --Serve--> N threads, each with a descriptor of its own or all with one:
//	                           (epoll) -> read -> Server.Handle -> write
//	                                       | pending
//	                                       v
//	                           M workers: Server.Wait -> Finish -> write
//
// A request is one read and its reply one write, on the thread that read it. A
// request that has to wait for data leaves the thread with its buffers, in which a
// part of the reply may be stored already, so that the others go on. A thread sleeps
// only when there is nothing to read, in an epoll of its own with EPOLLEXCLUSIVE: the
// kernel wakes one thread for a request, and a thread can be told to end, which a
// blocking read can't.
//
// Trust: the kernel is trusted, the processes behind it are not; what they send is
// judged by fusesrv. Images are mapped files, so each thread is prepared for
// faults: one ends the request in EIO.
//
// Concurrency: the methods of a Conn may be called from any goroutine, Serve once.
// Close is called last.
//
// Source: Linux include/uapi/linux/fuse.h and fs/fuse/dev.c; nydusd's mount
// options (nydusd, section 4.8); docs/decisions/0006-dev-fuse-loop.md.
package devfuse
