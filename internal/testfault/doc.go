// Package testfault is networks that misbehave, for tests: a proxy that spoils answers,
// and a name server that answers or not.
//
//	client --> Proxy, which a Fault was set for --> a real server
//	  |
//	  +------> Names: 127.0.0.1, an error, or nothing
//
// Trust: none, it is for tests. Concurrency: everything may be called from any goroutine;
// everything ends with the test. Source: the faults of the issue about networks; RFC 1035
// for names.
package testfault
