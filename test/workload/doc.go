// Package workload starts real programs out of images that come over a slow link, and
// the same programs after pulling and unpacking the same image.
//
//	registry --- line --- veth, 10 MB/s ---> host: vrafsd fuse --> overlayfs --> program
//	           20 ms round trip                      HTTP | tar --> directory --> program
//
// The rate is the kernel's (tbf), the delay is the line's: the kernel lacks netem. The
// line also counts what goes through it: requests and bytes are facts of a test, the
// seconds are a benchmark's.
//
// Trust: everything here is the tests' own. Concurrency: one start at a time. Source:
// what has to be shown of networks.
package workload
