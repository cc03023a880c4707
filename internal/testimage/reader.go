package testimage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// A reader decodes and checks the chunks of one image.
type reader struct {
	im    *rafs.Image
	dir   string
	blobs map[uint16]*blob
	dec   codec.Decoder
	last  rafs.Chunk // whose bytes are in buf
	buf   []byte

	unitOf rafs.Chunk // a chunk of the batch or slice in unit
	unit   []byte
}

type blob struct {
	*rafs.Blob
	f     *os.File
	meta  *rafs.BlobMeta // v6
	index *rafs.ChunkIndexTable
	xts   *codec.XTS
}

func (r *reader) close() {
	for _, b := range r.blobs {
		b.f.Close()
	}
}

// open finds a blob and what describes its chunks.
func (r *reader) open(i uint16) (*blob, error) {
	if b := r.blobs[i]; b != nil {
		return b, nil
	}
	b := &blob{Blob: &r.im.Blobs()[i]}
	var err error
	if b.f, err = os.Open(filepath.Join(r.dir, b.ID)); err != nil {
		return nil, err
	}
	r.blobs[i] = b
	if b.Encrypted() {
		if b.xts, err = codec.NewXTS(b.Key, b.IV); err != nil {
			return nil, err
		}
	}
	if r.im.Tarfs() {
		return b, nil
	}
	if b.index, err = r.im.BuildIndex(int(i), make([]byte, r.im.IndexBytes(int(i)))); err != nil {
		return nil, err
	}
	if r.im.Version() == rafs.V6 {
		b.meta, err = r.readMeta(b)
	}
	return b, err
}

// readMeta reads the chunk info array of a v6 blob.
func (r *reader) readMeta(b *blob) (*rafs.BlobMeta, error) {
	f, err := os.Open(filepath.Join(r.dir, b.MetaID))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, b.MetaCompressedSize+rafs.BlobMetaHeaderSize)
	if _, err := f.ReadAt(raw, int64(b.MetaOff)); err != nil {
		return nil, fmt.Errorf("blob meta of %s: %w", b.ID, err)
	}
	stored, header := raw[:b.MetaCompressedSize], raw[b.MetaCompressedSize:]
	if b.xts != nil {
		if stored, err = b.xts.Decrypt(stored); err != nil {
			return nil, err
		}
		if header, err = b.xts.Decrypt(header); err != nil {
			return nil, err
		}
	}
	array := make([]byte, b.MetaUncompressedSize)
	if err := r.dec.Decompress(array, stored, b.MetaCompressor); err != nil {
		return nil, fmt.Errorf("blob meta of %s: %w", b.ID, err)
	}
	return rafs.ParseBlobMeta(b.Blob, header, array)
}

// chunk gives the bytes of chunk k of a file, valid until the next call.
func (r *reader) chunk(in *rafs.Inode, k uint64) ([]byte, error) {
	c, err := in.Chunk(k)
	if err != nil {
		return nil, err
	}
	b, err := r.open(c.Blob)
	if err != nil {
		return nil, err
	}
	if r.buf != nil && c.Blob == r.last.Blob && c.Index == r.last.Index && !r.im.Tarfs() {
		return r.buf, nil
	}
	if !r.im.Tarfs() {
		if c, err = complete(b, c); err != nil {
			return nil, err
		}
	}
	p, err := r.decode(b, c)
	if err != nil {
		return nil, fmt.Errorf("chunk %d of blob %s: %w", c.Index, b.ID, err)
	}
	r.last, r.buf = c, p
	return p, nil
}

// complete joins what the chunk table and the blob meta say of a chunk.
func complete(b *blob, c rafs.Chunk) (rafs.Chunk, error) {
	rec, ok := b.index.Chunk(c.Index)
	if !ok {
		return c, fmt.Errorf("chunk %d of blob %s: no record", c.Index, b.ID)
	}
	if rec.Off != c.Off || rec.Size != c.Size {
		return c, fmt.Errorf("chunk %d of blob %s: record says %d+%d, file says %d+%d", c.Index, b.ID, rec.Off, rec.Size, c.Off, c.Size)
	}
	if b.meta == nil {
		return rec, nil
	}
	m, err := b.meta.Chunk(c.Index)
	if err != nil {
		return c, err
	}
	zran := m.Flags&rafs.ChunkZran != 0 // then the place is that of the slice
	if m.Off != c.Off || m.Size != c.Size || !zran && m.CompressedOff != rec.CompressedOff {
		return c, fmt.Errorf("chunk %d of blob %s: blob meta and chunk table disagree", c.Index, b.ID)
	}
	m.Digest, m.HasDigest = rec.Digest, rec.HasDigest
	if rec.Flags&rafs.ChunkHasCRC != 0 {
		m.Flags, m.CRC32 = m.Flags|rafs.ChunkHasCRC, rec.CRC32
	}
	return m, nil
}

// decode reads, decrypts and decompresses c and checks it in every way there is.
func (r *reader) decode(b *blob, c rafs.Chunk) ([]byte, error) {
	if r.im.Tarfs() {
		p := make([]byte, c.Size)
		_, err := b.f.ReadAt(p, int64(c.Off))
		return p, err
	}
	unit, err := r.readUnit(b, c)
	if err != nil {
		return nil, err
	}
	p := unit[c.UnitOff:][:c.Size]
	return p, verify(b, c, p)
}

// readUnit gives what is stored as one: a chunk, or the batch or slice it is in,
// which is kept for the chunks that follow.
func (r *reader) readUnit(b *blob, c rafs.Chunk) ([]byte, error) {
	shared := c.Flags&(rafs.ChunkBatch|rafs.ChunkZran) != 0
	if shared && r.unit != nil && r.unitOf.Blob == c.Blob && r.unitOf.Unit == c.Unit {
		return r.unit, nil
	}
	stored, unit := make([]byte, c.CompressedSize), make([]byte, c.Size)
	if shared {
		unit = make([]byte, c.UnitSize)
	}
	n, err := b.f.ReadAt(stored, int64(c.CompressedOff))
	if b.LegacyStargz() && n > 0 && err == io.EOF {
		stored, err = stored[:n], nil // the stored size is an upper bound
	}
	if err != nil {
		return nil, err
	}
	if b.xts != nil {
		var err error
		if stored, err = b.xts.Decrypt(stored); err != nil {
			return nil, err
		}
	}
	if err := r.unpack(b, c, unit, stored); err != nil {
		return nil, err
	}
	if shared {
		r.unit, r.unitOf = unit, c
	}
	return unit, nil
}

// unpack decompresses a unit.
func (r *reader) unpack(b *blob, c rafs.Chunk, unit, stored []byte) error {
	if c.Flags&rafs.ChunkZran != 0 {
		z, err := b.meta.Zran(c.Unit)
		if err != nil {
			return err
		}
		return r.dec.Zran(unit, stored, codec.ZranContext{Byte: z.CtxByte, Bits: z.CtxBits, Dict: z.Dict})
	}
	compressor := rafs.CompressorNone
	if c.Flags&rafs.ChunkCompressed != 0 {
		compressor = b.Compressor
	}
	return r.dec.Decompress(unit, stored, compressor)
}

func verify(b *blob, c rafs.Chunk, p []byte) error {
	if !c.HasDigest || codec.Sum(b.Digester, p) != c.Digest {
		return errors.New("digest mismatch")
	}
	if c.Flags&rafs.ChunkHasCRC != 0 && codec.CRC32C(p) != c.CRC32 {
		return errors.New("checksum mismatch")
	}
	return nil
}
