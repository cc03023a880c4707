// Package doctor looks over a node that is to run Kata Containers over vrafsd, and
// says what has to be changed.
//
//	containerd's config.toml --> runtimes that use the snapshotter
//	        |                          |
//	        v                          v
//	nydus-snapshotter's         Kata's configuration.toml, config.d/*
//	        |                          |
//	        v                          v
//	template, cache directory    daemon and its arguments, memory, DAX, devices
//
// A node is a directory: / on the node itself, where it is mounted elsewhere. Links
// are followed as the node would. Nothing is written.
//
// Trust: the node is its operator's. Files are read up to a bound; credentials are
// not shown. Programs are run only by what the caller hands in, and only the daemon
// that Kata would run. Concurrency: one Examine at a time for one Options.
//
// Source: kata.md sections 1.3, 3.1, 3.4, 5 and 6.
package doctor
