package blobcache

import (
	"io"
	"os"
)

// rewrite lets edit change size bytes of f from off on, a piece after the other, and
// writes back the pieces that it reports to have changed: the pages of those are
// there, so a full disk or a file with holes is no obstacle. It ends at the end of f.
// Pieces begin at multiples of their length and are 4 KiB long but for the first and last.
func rewrite(f *os.File, off, size int64, edit func(at int64, piece []byte) (changed bool)) error {
	var buf [4096]byte
	for end := off + size; off < end; {
		piece := buf[:min(int64(len(buf))-off%int64(len(buf)), end-off)]
		n, err := f.ReadAt(piece, off)
		if err != nil && err != io.EOF {
			return err
		}
		if n > 0 && edit(off, piece[:n]) {
			if _, err := f.WriteAt(piece[:n], off); err != nil {
				return err
			}
		}
		if n < len(piece) {
			return nil
		}
		off += int64(n)
	}
	return nil
}

// blank makes zeros of a piece.
func blank(_ int64, piece []byte) (changed bool) {
	for i := range piece {
		changed = changed || piece[i] != 0
		piece[i] = 0
	}
	return changed
}
