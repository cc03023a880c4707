// Package chunkread reads the chunks of an image from its data blobs, one after
// the other, for tools that need no cache.
//
//	chunks, in the caller's order --> resolve --> [fetch, decrypt, decompress, digest] --> emit
//	                                  metadata     one of n workers                        same order
//
// Nothing is emitted before its digest was compared, and its CRC if it has one.
// Chunks without a digest are refused, unless the caller allows them by name.
// A Reader holds at most a few chunks per worker, whatever the image says.
//
// Blobs and blob metadata are untrusted. The bootstrap may be a mapping: only the
// goroutine that calls Stream looks into it, the workers get values.
//
// A Reader is for one goroutine at a time. Source: RAFS, sections 2.14 and 4.
package chunkread
