package oci

import "errors"

var (
	// ErrRef is the class of references that cannot be read.
	ErrRef = errors.New("image reference")
	// ErrNotFound is the class of images and blobs that are not where the reference says.
	ErrNotFound = errors.New("not found")
	// ErrDenied is the class of what a registry refuses to these credentials.
	ErrDenied = errors.New("access denied")
	// ErrCorrupt is the class of malformed manifests, configurations, layouts and
	// archives, and of bytes that do not match their digest.
	ErrCorrupt = errors.New("corrupt image")
	// ErrUnsupported is the class of images that are well formed but of a kind this
	// package does not handle.
	ErrUnsupported = errors.New("unsupported image")
	// ErrPlatform is the class of images that do not exist for the wanted platform.
	ErrPlatform = errors.New("no image for the platform")
)
