// Package ocitest makes small OCI images for tests, out of entries that any tar may
// have, also those that no tool writes.
//
//	[]Entry --Tar--> layer --Layer--> compressed --Layout--> oci:DIR:TAG
//
// Trust: none, it is for tests. Concurrency: everything may be called from any
// goroutine. Source: OCI image specification 1.1, "image-layout.md".
package ocitest
