// Package opener is the one place where the serving process opens files by path.
//
//	daemon, caches, back ends --path--> Opener --descriptor--> *os.File, Mapping
//	                                      |
//	                 in this process (Local), or a privileged child that answers
//	                 with descriptors, so that this one can be locked in
//
// Paths come from the configuration and the control API, never from a guest, an
// image or a database; names that do are checked with Name before they become the
// last element of a path.
//
// Every descriptor is close-on-exec. A Mapping is read-only memory: of the
// file itself if that lies on a local file system, else of a sealed private
// copy, so that no page of it can depend on a network or a FUSE server
// (docs/decisions/0002-mapped-files.md).
//
// An Opener and a Mapping may be used from any goroutine; Close only once,
// after the last use.
package opener
