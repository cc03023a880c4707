package blobcache

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// Held is fetched data that could not be stored, because the disk is full or the
// directory is read-only. It lies in a memory file, so that Read can copy it by a
// system call. It holds no more than the spans it was given to. The zero value is
// empty and ready. One goroutine at a time.
type Held struct {
	file   *os.File
	pieces []heldPiece
	size   int64
}

// A heldPiece is the data of one span.
type heldPiece struct {
	blob uint16
	len  uint32
	off  uint64 // in the uncompressed blob
	at   int64  // in the memory file
}

// Size gives the bytes that are held.
func (h *Held) Size() int64 { return h.size }

// Release frees the data. Held is then empty and can be used again.
func (h *Held) Release() {
	if h.file != nil {
		h.file.Close()
	}
	*h = Held{pieces: h.pieces[:0]}
}

// find gives the place of a span's bytes in the memory file.
func (h *Held) find(s *rafs.Span) (at int64, ok bool) {
	if h == nil {
		return 0, false
	}
	for i := range h.pieces {
		p := &h.pieces[i]
		if p.blob == s.Blob && s.Off >= p.off && s.Off-p.off <= uint64(p.len) && uint64(s.Len) <= uint64(p.len)-(s.Off-p.off) {
			return p.at + int64(s.Off-p.off), true
		}
	}
	return 0, false
}

func (h *Held) has(s *rafs.Span) bool {
	_, ok := h.find(s)
	return ok
}

// add keeps a copy of p, the bytes of s.
func (h *Held) add(s *rafs.Span, p []byte) error {
	if h.file == nil {
		fd, err := unix.MemfdCreate("vrafs-held", unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("hold fetched data: %w", err)
		}
		h.file = os.NewFile(uintptr(fd), "vrafs-held")
	}
	if _, err := h.file.WriteAt(p, h.size); err != nil {
		return fmt.Errorf("hold fetched data: %w", err)
	}
	h.pieces = append(h.pieces, heldPiece{blob: s.Blob, len: s.Len, off: s.Off, at: h.size})
	h.size += int64(len(p))
	return nil
}
