// Package backends opens the storage that a configuration names.
//
//	config.Backend --Open--> localfs | localdisk
//	                     --> registry | s3 | oss | httpproxy --> mirror --> hedge --> limit --> pace --> window --> retry
//
// Trust: the configuration is the operator's; what comes from the back ends is
// checked by whoever reads blobs. Concurrency: an opened back end may be used from
// any goroutine. Source: the user-visible surface of nydusd, sections 3.4 and 3.5.
package backends
