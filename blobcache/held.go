package blobcache

import "os"

// Held is fetched data that could not be stored, because the disk is full or the
// directory is read-only. It lies in a memory file, so that Read can copy it by a
// system call. The zero value is empty and ready. One goroutine at a time.
type Held struct {
	file *os.File
}

// Release frees the data. Held is then empty and can be used again.
func (h *Held) Release() {}
