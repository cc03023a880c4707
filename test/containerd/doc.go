// Package containerd runs containers from our images as a platform does: containerd
// and runc, nydus-snapshotter unmodified, and our programs in the place of nydusd
// and nydus-image.
//
//	layers --converter library, vrafs--> blobs, bootstrap --push--> docker-registry
//	                                       |                              |
//	                                       |               ctr-remote rpull, manifest and
//	                                       |               bootstrap only v
//	ctr run --> containerd --gRPC--> nydus-snapshotter --exec, API--> vrafsd
//	    |            |                     ^                            |
//	    |         shim, runc               `--- state, /dev/fuse -------+
//	    `-- output --+-- reader ---- overlayfs ---- FUSE ---------------'
//
// The tests run in namespaces of their own (internal/testns). So everything has a root
// of its own, the registry always has the same port, and no network is needed.
//
// What is not in Debian is built by scripts/install-deps out of the module in peer:
// nydus-snapshotter, and a program that drives its converter library.
//
// Trust: everything here is the tests' own. Concurrency: one stage at a time.
// Source: nydusd's user-visible surface, sections 7 and 8; nydus-snapshotter v0.16.1.
package containerd
