// Package mountfs is many file systems in one connection: pseudo directories, the
// split of node ids, timeouts, and what may be answered ENOSYS.
//
//	63 62        40 39                    0
//	|0| mount (22) | local id (40)        |   node id; id 1 is the root
//
//	mount 0    the first file system mounted at "/", whose node ids are its own
//	mount 1    pseudo directories: "/", and the parents of mountpoints
//	mount 2..  the others, in the order they were mounted; never given out twice
//
// A mountpoint covers what the file system above it has at that name, also when it
// was mounted later. A pseudo directory exists as long as something is mounted
// below it.
//
// After Unmount nothing finds the file system any more; what a guest holds open
// is served until it is closed, then its nodes are ESTALE, and the owner of the
// file system is told that it may go. On a connection without handles that is at
// once.
//
// ENOSYS makes a guest never ask again, for the whole connection. Whether the
// connection carries only images for ever, and then whether files are opened
// without a message, is decided once, in New; on any other connection an answer is
// found that says no less and does not stick.
//
// Trust: node ids, names and counts come from a guest. Handle counts are what the
// guest says and decide only how long a file system that was unmounted stays.
//
// Concurrency: a request looks at one immutable table, found by one atomic load.
// FS.mu serialises changes and is not held while a file system is called, but in
// Load.
//
// Source: nydusd 4.7, kata 2.2 and 2.5, vhost-user-fs 4.6;
// docs/decisions/0005-requests-that-wait.md.
package mountfs
