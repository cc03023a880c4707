// Package passthrough is a fusesrv.FS over a directory of the host, for reading and
// writing.
//
//	guest                         this package                        host
//	LOOKUP dir, name ---> node of dir --> descriptor --> statx(descriptor, name)
//	     node id     <--- node of (mount, device, inode), by its file handle
//	READ, WRITE      ---> open file ----> descriptor --> preadv2, pwritev2
//	FORGET           ---> node and, after the last of its mount, the mount are let go
//
// A node is 128 bytes and no descriptor: what is needed later is opened by its file
// handle (open_by_handle_at(2)). Descriptors of nodes in use are kept up to a number.
// Where there are no handles (some file systems, a process that is not root) each node
// has a descriptor. The table of nodes has no pointers and lies in a memory file. What the
// guest knows and has open can so be gone on with by the program that takes this one's
// place in the same process (FS.State, Resume).
//
// Trust: none in the guest, which may send anything at any moment, and may have any
// number of names changed meanwhile. Nothing is ever opened by more than one name
// below a descriptor, no symlink is followed, and nothing but regular files and
// directories is opened at all, after it was asked for through a descriptor. The host
// is trusted: what it mounts or moves into the directory is in it.
//
// Concurrency: methods are called from any number of goroutines. Lock order: cache.mu,
// a shard's lock, nodes.mu; no lock is held in a system call that may wait, but that of
// a directory that is being listed.
//
// Source: kata 2.5, nydusd 5, vhost-user-fs 4; the manual pages of the
// system calls; docs/decisions/0018-shared-directories.md.
package passthrough
