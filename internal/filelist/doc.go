// Package filelist reads and writes lists of files of an image, for prefetch.
//
//	/usr/bin/python3                      a line is an absolute path, perhaps
//	/usr/lib/libc.so.6<TAB>0-4095,8192-9215   with the ranges that count: first-last
//
//	{"version":"v1","files":[{"path":"/usr/bin/python3"},
//	                         {"path":"/usr/lib/libc.so.6","ranges":[[0,4096],[8192,1024]]}]}
//
// Lines without ranges are what nydusd and nydus-image read, the JSON is what
// nydus-image optimize reads (ranges there are offset and size). A file may be named
// several times: the order is that in which things are wanted.
//
// Trust: none in what is read. Concurrency: no state. Source: the user-visible
// surface of nydusd, sections 1.4 and 6.9; RAFS, section 6.7; ranges in lines are ours.
package filelist
