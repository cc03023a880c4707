// Package imagefs is a fusesrv.FS over an image: metadata from rafs, bytes from
// blobcache.
//
//	node id = rafs.Ino --Image.Inode--> inode in the mapped bootstrap
//	READ    AppendSpans -> Cache.TryRead --all there--> guest's buffers, done
//	                          | ErrMiss: spans and offset go into a miss
//	                       Cache.Fetch   on a worker, without buffers
//	                       Cache.Read    into the guest's buffers, done
//
// An FS keeps nothing per node and nothing per open file: FORGET and RELEASE do
// nothing, and a restarted process serves the guest of the former one. The
// length of a READ reply is min(size, size of file - offset), or an errno is
// replied; it is never what a system call happened to return.
//
// Trust: the image and the guest are trusted for nothing. A node id of a guest that
// names no inode is ESTALE, a malformed inode found on the way EUCLEAN, missing or
// wrong data EIO. The cache checks the data. Goroutines that call methods must be
// prepared for faults, since the bootstrap is a mapping.
//
// Concurrency: an FS is immutable but for the record of checked inodes.
//
// Source: nydusd 4.1 (RAFS as seen through the mount), vhost-user-fs 4.2 to 4.8.
package imagefs
