// Package testns gives the tests of a package namespaces of their own, and hosts with
// links between them.
//
//	test binary --Main--> again, as process 1 of new process, mount, network, IPC and
//	                      host name namespaces --> the tests
//	                        |
//	                        `-- Host --veth, rate by tbf-- Host    (network namespaces)
//
// The kernel ends all processes and mounts with the tests however these end, the root
// of mounts is private, and no test sees another network than what it made itself.
//
// Trust: none needed, everything here is the tests' own. Concurrency: Main is
// called once; a Host's methods may be called from any goroutine. Source:
// namespaces(7), network_namespaces(7), tc-tbf(8).
package testns
