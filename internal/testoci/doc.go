// Package testoci has container images for tests, as OCI layouts that other people's
// tools made, each with the tree that umoci unpacks it to.
//
//	debootstrap --tar--> umoci add-layer --.
//	apt-get in the unpacked tree --> umoci repack --> layout (skopeo, registries)
//	tars of Odd --> umoci add-layer -------'             '--> umoci unpack --> tree
//
// Python, Nginx and JVM are what people run: the same Debian below, packages on it,
// and a layer of their own with a program that says "ready" and that removes some of
// what is below. Odd is what nobody runs: every layer and every entry is there for
// something that a converter may get wrong.
//
// Images are made once and kept in testenv.CacheDir; what was kept must not be
// changed. Debian's packages get newer, so their digests differ between machines;
// those of Odd do not.
//
// Trust: none needed, everything here is the tests' own. Concurrency: everything may
// be called from any goroutine. Source: OCI image layout 1.0; what has to be shown of
// conversion.
package testoci
