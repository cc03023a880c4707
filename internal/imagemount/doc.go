// Package imagemount mounts images by their references: each mount is a daemon that
// one command starts and another ends.
//
//	reference --oci--> manifest, bootstrap ----> state directory
//	                   registry or layout -----> configuration --control socket--.
//	exec vrafsd fuse --mountpoint DIR --apisock S ---------------> RUNNING --> mounted
//
// What belongs to a mount lies in a directory of its own, named after the mountpoint,
// until it is unmounted: the bootstrap, the daemon's control socket and its log. Data
// is kept in one bounded cache that all mounts of a user share.
//
// Trust: images and registries are hostile: the bootstrap layer is compared with its
// digest before the daemon sees it, and the daemon checks it and each chunk. Credentials
// reach the daemon over its socket, which only its user can open, and are in no
// argument, file or log. Concurrency: two commands may work on two mountpoints; on one,
// the second fails. Source: nydusd's user-visible surface, sections 1 to 3.
package imagemount
