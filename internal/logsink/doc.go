// Package logsink is where a daemon's log lines go: a pipe or a file that may be
// full, gone or read by nobody.
//
//	goroutines --Write--> queue (bounded bytes) --one goroutine--> stderr, or File
//	              |                                                 |
//	              +-- full: dropped, counted                        +-- full: set aside, gzip
//
// A record never makes its writer wait, so a stuck disk or a reader that left
// can't stop a request that logs. No line is longer than MaxLine: Kata's reader
// gives up for good above 64 KiB, and the pipe fills behind it.
//
// Trust: records may quote what a guest or client sent; they are cut, not
// judged. Concurrency: Write may be called from any goroutine, Close once; a
// File is used by one goroutine, a Sink's.
//
// Source: nydusd's user-visible surface, sections 1.2 and 1.8; kata.md 1.3.
package logsink
