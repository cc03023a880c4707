// Package bench measures our daemon beside others: its virtio-fs device beside
// Debian's C virtiofsd 7.2, its mounts on this host beside go-fuse's, squashfuse's and
// the kernel's. The same tree and the same requests go to both, in turn, in one run.
//
//	load (this process)                     peer (a process each)
//	vhostusertest.Client --depth N--> ring --> vrafsd virtiofs | virtiofsd
//	                                            CPU time by its process clock
//
//	programs of the host --system calls--> kernel --/dev/fuse--> vrafsd fuse | others
//
// A row is one kind of load. Each round runs it against the one peer and then
// against the other for a fixed time, so that a machine whose speed drifts slows
// both; figures are medians over the rounds. What a daemon costs is its CPU time
// per request: the rate is often bounded by the load generator, which shares the
// machine's cores with the daemon and whose own cost is reported too.
//
// Run it with `make bench P=./test/bench`. The figures of record are in
// docs/BENCHMARKS.md.
package bench
