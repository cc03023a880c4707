// Package cli parses command lines the way nydusd and nydus-image do, and
// reports results the way they do.
//
//	argv --Parse--> *Command + filled variables --Run--> error --Report--> stderr, exit status
//
//	status 0  done, or --help / --version (stdout)
//	status 1  a failure: "Error: <what>", then "Caused by:" (stderr)
//	status 2  wrong usage: "error: <what>", then a usage hint (stderr)
//
// The conventions are those of the clap 4 parser: "--opt value", "--opt=value",
// "-o value", "-ovalue" and "-abc" for flags; no abbreviations of long names; an
// option given twice is an error. Programs that read our error texts compare
// them with clap's, so the wording here is part of the interface.
//
// Trust: argv and the environment belong to the user who started us; nothing here
// reads a file. Concurrency: a Command tree is built per run and used by one
// goroutine; the log handler and the progress line may be used by any.
//
// Source: nydusd's and nydus-image's user-visible surface at Nydus 2.4,
// docs/decisions/0003-command-line-parser.md.
package cli
