// Package images takes container images the whole way with the programs as users run
// them, and compares what comes out with what umoci makes of the same image.
//
//	umoci, skopeo --layout--> vrafs convert --> docker-registry --> vrafs mount --> tree
//	      `-- umoci unpack --> tree <------------- equal ------------------------------'
//
// Trust: everything here is the tests' own. Concurrency: tests run one after the other,
// each with directories, registry and daemons of its own. Source: what has to be shown
// of conversion.
package images
