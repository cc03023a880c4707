// Package scatter reads and writes files from and into memory in pieces.
//
//	dst  [....][..........][...]      a Cursor: where in the pieces to go on
//	        ^--- Vectors: up to 1,024 of them, for one preadv2(2) or pwritev2(2)
//
// Trust: the pieces may be memory that a peer takes away. The kernel copies, so
// that what is gone is an errno or a short count and not a fault of ours.
//
// Concurrency: a Cursor belongs to one goroutine. Source: readv(2).
package scatter
