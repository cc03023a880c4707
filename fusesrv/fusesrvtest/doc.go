// Package fusesrvtest is a FUSE client without a transport, and images that are
// served to it, for tests, fuzzing and benchmarks of file systems.
//
//	Serve(image) -> Stack: rafs, blobcache, imagefs, mountfs, Server
//	                  ^
//	Direct ----Handle, Wait, Finish   any split of a request into buffers
//	  |
//	Walk(Caller) -> []testtree.Entry  also over rings and /dev/fuse
//
// Trust: a server is checked on every reply: length, unique and errno are those the
// protocol allows, and nothing behind the reply was written. What is wrong is an
// error of class ErrServer.
//
// Concurrency: a Direct is used by one goroutine; several may share a server.
//
// Source: Linux include/uapi/linux/fuse.h.
package fusesrvtest
