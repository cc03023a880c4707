// Package vm boots Debian's kernels in QEMU with a root of our own making and
// runs things inside them.
//
//	host                                     guest (QEMU, emulated CPU)
//	FetchKernel ---- vmlinux, modules -----> kernel
//	NewInitramfs --- guest program, files -> /init (test/vm/guest)
//	Machine.Call --- one line of JSON -----> ttyS1 -> command -> one line back
//	Machine.QMP ---- QEMU's monitor
//	console.log <--- ttyS0, what the kernel and the guest program print
//	back-end <------ vhost-user socket ----> virtiofs driver
//
// The CPU is always emulated: there are machines whose /dev/kvm opens and then
// hangs every guest. A boot takes two to four seconds; guest memory is a shared
// memfd, as a vhost-user back-end needs. Each machine has a directory with its
// console; it is removed at the end unless something went wrong.
//
// Trust: kernels come from the machine's own apt sources, whose signatures apt
// checks; the guest is ours. Concurrency: a Machine is used by one goroutine, but
// several machines may run side by side. Source: style.md T11, QEMU 7.2 and its
// QMP reference, Documentation/driver-api/early-userspace/buffer-format.rst and
// Documentation/arch/x86/boot.rst of Linux.
package vm
