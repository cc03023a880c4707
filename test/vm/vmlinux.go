package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"

	"github.com/klauspost/compress/zstd"
)

// Offsets in the setup header of a bzImage (Linux x86 boot protocol 2.08 and
// later, little-endian).
const (
	setupSectsAt    = 0x1f1 // u8, 0 means 4
	headerMagicAt   = 0x202 // "HdrS"
	payloadOffsetAt = 0x248 // u32, from the end of the setup sectors
	payloadLengthAt = 0x24c // u32, the last 4 bytes are the unpacked size
	setupHeaderEnd  = 0x250
)

var (
	xzMagic   = []byte("\xfd7zXZ\x00")
	zstdMagic = []byte("\x28\xb5\x2f\xfd")
	elfMagic  = []byte("\x7fELF")
)

// extractVmlinux unpacks the ELF kernel inside a bzImage. QEMU enters it through
// its PVH note, which spares an emulated CPU the decompression: 2 s of 4.
func extractVmlinux(ctx context.Context, image []byte) ([]byte, error) {
	if len(image) < setupHeaderEnd || string(image[headerMagicAt:headerMagicAt+4]) != "HdrS" {
		return nil, errors.New("not a bzImage")
	}
	sectors := int(image[setupSectsAt])
	if sectors == 0 {
		sectors = 4
	}
	rest := image[min((sectors+1)*512, len(image)):]
	off := uint64(binary.LittleEndian.Uint32(image[payloadOffsetAt:]))
	n := uint64(binary.LittleEndian.Uint32(image[payloadLengthAt:]))
	if off > uint64(len(rest)) || n > uint64(len(rest))-off || n < 4 {
		return nil, fmt.Errorf("bzImage: payload of %d bytes at %d does not fit in %d", n, off, len(rest))
	}
	elf, err := decompress(ctx, rest[off:off+n-4])
	if err != nil {
		return nil, fmt.Errorf("bzImage: payload: %w", err)
	}
	if !bytes.HasPrefix(elf, elfMagic) {
		return nil, errors.New("bzImage: payload is not ELF")
	}
	return elf, nil
}

// decompress unpacks xz and zstd; anything else is returned as it is.
func decompress(ctx context.Context, b []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(b, xzMagic):
		cmd := exec.CommandContext(ctx, "xz", "-dc", "--single-stream")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("xz (package xz-utils): %w", err)
		}
		return out, nil
	case bytes.HasPrefix(b, zstdMagic):
		dec, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<30))
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		var out bytes.Buffer
		_, err = out.ReadFrom(dec)
		return out.Bytes(), err
	}
	return b, nil
}
