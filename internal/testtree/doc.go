// Package testtree makes directory trees that exercise everything an image can
// hold, and compares trees by everything that can be seen of them.
//
//	Generate -> directory --Scan--> []Entry --Diff--> differences, one line each
//	                                  |   ^
//	                      WriteManifest   ReadManifest   (JSON lines, for a guest)
//
// A tree is a function of its Options: the same seed gives the same names,
// attributes and bytes on any machine. An Entry's Digest covers every byte of a
// file: it is a SHA-256 over the offset and bytes of each 4 KiB block that is not
// all zero, then the size. So a file of 5 GiB that is nearly all hole costs little
// to describe, and zeros in a hole equal zeros on disk.
//
// Trust: none needed, both sides are the tests' own. Concurrency: functions may run
// side by side on different directories; nothing may change a tree while Scan reads
// it. Source: the points to show of the image and virtio-fs issues.
package testtree
