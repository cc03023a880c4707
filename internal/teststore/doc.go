// Package teststore keeps blobs, for tests, in every way that a configuration can name:
// in directories, on disks, and on servers of every kind.
//
//	blobs --Kind.Start--> a running server --> Store: what a configuration says of it
//	                                             |
//	                            Store.Through ---+--- Store.At: behind another server
//
// Trust: none, it is for tests. Concurrency: everything may be called from any goroutine;
// servers end with the test. Source: nydusd's configuration, the section about back ends;
// Alibaba Cloud, "Include signatures in the Authorization header" (version 1).
package teststore
