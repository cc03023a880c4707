// Package rafs reads RAFS v5 and v6 metadata: it parses bootstraps, looks names
// up, lists directories, maps file ranges to chunks, and checks what it reads.
//
//	bootstrap ([]byte, usually a read-only mapping)
//	+-------+------------+------------+--------+-----------------------------+
//	| super | blob table | inode tbl  | inodes, names, directories, chunks ... |
//	+-------+------------+------------+--------+-----------------------------+
//	    |         |            |
//	  Open      Blobs     Inode(ino) --+-- Lookup, Dir, Parent    directories
//	 O(blobs)             offset       +-- AppendSpans, Chunk     regular files
//	                      arithmetic   +-- Symlink, Xattr, Attr
//
//	data blob: ToC and tar headers (ParseTOC, ParseTailHeader), chunk info array
//	(ParseBlobMeta), both handed in as bytes by the caller
//
// Everything is parsed in place: an Inode is a small value that holds offsets,
// opening costs the number of blobs, and neither a lookup, a listing nor a span
// allocates. Byte slices returned for names, targets and xattr values are views
// of the bootstrap; they must not be changed and end with the mapping.
//
// Nothing in an image is trusted. Each offset and count is checked before use
// with arithmetic that can't overflow, each loop is bounded by the bytes that
// are there, and a bad value is a *FormatError that names field and offset.
// What one operation can't see (cycles, duplicate names, unsorted directories)
// makes lookups miss but does no harm; Image.Check finds it.
//
// An Image is immutable: all methods may be used by any number of goroutines.
// The package does no I/O.
//
// Source: the RAFS and Nydus image formats of mid 2026; sections cited in
// comments are those of the project's format description.
package rafs
