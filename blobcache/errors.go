package blobcache

import "errors"

var (
	// ErrMiss says that bytes can't be had without waiting: go on with Fetch and
	// Read. It is no failure and never wrapped.
	ErrMiss = errors.New("not in the cache")
	// ErrUnverified is the class of data that carries no digest and that
	// ImageOptions.AllowUnverified does not name.
	ErrUnverified = errors.New("data without digests")
	// ErrDigest is the class of data whose digest or CRC is wrong, also after it was
	// fetched a second time from the origin.
	ErrDigest = errors.New("digest mismatch")
	// ErrClosed is returned by calls after Close.
	ErrClosed = errors.New("cache is closed")
)
