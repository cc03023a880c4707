// Package kata is what Kata Containers and the hypervisors ask of a node's set-up:
// extraoption, configuration drop-ins, attaching the device.
//
//	nydus-snapshotter --extraoption=base64(JSON)--> Kata's runtime     ParseExtraOption
//	containerd, snapshotter, Kata <-- files with the right keys --     Setup.Files
//	QEMU, Cloud Hypervisor        <-- a vhost-user-fs device ----      Hypervisor
//
// There are two runtimes, written in Go and in Rust, which read the same options
// by different rules; what depends on them takes a Runtime.
//
// Trust: mount options come from a snapshotter and hold credentials: they are
// bounded, and no error repeats what is in them. Answers of hypervisors are bounded.
// Concurrency: values, and hypervisors that serve one call after the other.
//
// Source: Kata Containers 4.1, nydus-snapshotter 0.15 and containerd 2 (kata.md
// sections 1.6, 2.2, 3 and 5), Cloud Hypervisor's API, QEMU's QMP reference.
package kata
