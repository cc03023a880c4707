// Package testregistry runs Debian's docker-registry for tests, and what stands
// around registries: token servers, a proxy that spoils answers, and proxies that cache.
//
//	test --> Proxy --> docker-registry on 127.0.0.1, a storage of its own
//	  |                      ^ trusts the certificate of
//	  +----> Tokens ---------+
//
// Run, Await and FreePort serve tests that run other servers.
//
// Trust: none, it is for tests. Concurrency: everything may be called from any
// goroutine; everything ends with the test. Source: CNCF Distribution 2.8,
// configuration and "Token Authentication Specification".
package testregistry
