// Package inflate decompresses gzip streams and says where they can be entered
// again: at the start of a deflate block, given the bytes before it.
//
//	gzip file   | header | block | block | ... | trailer | header | block ...
//	                     ^ Point{InOff, Bits}
//	output      .........|-- 32 KiB window --|-- from here on --
//	                        Point.Dict        ^ Point.OutOff
//
// It reads strictly forward and never decodes more than one symbol beyond what
// was asked for, so that between two reads the position in the input belongs to
// the position in the output. The library inflaters hide both.
//
// Trust: the input is hostile. Every error is of class ErrData; memory is fixed,
// whatever the input says. A Reader is for one goroutine.
//
// Source: RFC 1951 (deflate), RFC 1952 (gzip), and rafs.md 4.7 for what a point
// is needed for.
package inflate
