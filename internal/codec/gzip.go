package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Flags of a gzip member header (RFC 1952, 2.3.1).
const (
	gzipHdrCRC  = 0x02
	gzipExtra   = 0x04
	gzipName    = 0x08
	gzipComment = 0x10
	gzipUnknown = 0xe0

	gzipTrailer = 8 // CRC-32 and size of the member
)

func (d *Decoder) decompressGzip(dst, src []byte) error {
	d.in.Reset(src)
	defer d.in.Reset(nil)
	if err := skipGzipHeader(&d.in); err != nil {
		return err
	}
	if err := d.startInflate(nil); err != nil {
		return err
	}
	if _, err := io.ReadFull(d.inflate, dst); err != nil {
		return fmt.Errorf("%w: gzip: %v", ErrData, err)
	}
	return d.checkGzipTrailer(dst)
}

// checkGzipTrailer compares the trailer where the member ends exactly with dst.
// A member that goes on, or whose trailer is cut off, is left to the digest.
func (d *Decoder) checkGzipTrailer(dst []byte) error {
	var more [1]byte
	if n, err := d.inflate.Read(more[:]); n != 0 || err != io.EOF {
		return nil
	}
	var t [gzipTrailer]byte
	if _, err := io.ReadFull(&d.in, t[:]); err != nil {
		return nil
	}
	if binary.LittleEndian.Uint32(t[:]) != crc32.ChecksumIEEE(dst) || binary.LittleEndian.Uint32(t[4:]) != uint32(len(dst)) {
		return fmt.Errorf("%w: gzip: trailer differs", ErrData)
	}
	return nil
}

// skipGzipHeader moves r behind the header of the member it stands at.
func skipGzipHeader(r *bytes.Reader) error {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return fmt.Errorf("%w: gzip header cut off", ErrData)
	}
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 || h[3]&gzipUnknown != 0 {
		return fmt.Errorf("%w: no gzip header", ErrData)
	}
	if h[3]&gzipExtra != 0 {
		var n [2]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return fmt.Errorf("%w: gzip header cut off", ErrData)
		}
		skip := int64(binary.LittleEndian.Uint16(n[:]))
		if skip > int64(r.Len()) {
			return fmt.Errorf("%w: gzip header cut off", ErrData)
		}
		if _, err := r.Seek(skip, io.SeekCurrent); err != nil {
			return fmt.Errorf("%w: gzip header: %v", ErrData, err)
		}
	}
	for _, flag := range [...]byte{gzipName, gzipComment} {
		if h[3]&flag == 0 {
			continue
		}
		for {
			b, err := r.ReadByte()
			if err != nil {
				return fmt.Errorf("%w: gzip header cut off", ErrData)
			}
			if b == 0 {
				break
			}
		}
	}
	if h[3]&gzipHdrCRC != 0 {
		if _, err := io.ReadFull(r, h[:2]); err != nil {
			return fmt.Errorf("%w: gzip header cut off", ErrData)
		}
	}
	return nil
}
