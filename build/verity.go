package build

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	verityBlock  = 4096                      // bytes of a hash block
	verityFanout = verityBlock / sha256.Size // digests in one
	veritySpan   = 4 << 20                   // bytes that a worker reads at a time; its digests fill whole hash blocks
)

// A verityLevel is one level of the hash tree: where it lies and of what.
type verityLevel struct {
	off, blocks uint64 // of the level, in hash blocks
}

// appendVerity writes a dm-verity hash tree of format 1 with SHA-256 and no salt
// behind the data and returns the root hash. The top level comes first:
//
//	hash offset
//	| level n-1: 1 block | .. | level 1 | level 0: a digest per data block |
//
// A block of the tree is padded with zeros; the root hash is the digest of the top
// block, or of the data itself if there is only one block of it.
func appendVerity(ctx context.Context, disk Disk, r *ExportResult, threads int) (root [32]byte, err error) {
	levels := verityLevels(r.DataBlocks, r.HashOffset)
	end := r.HashOffset
	for _, l := range levels {
		end += l.blocks * verityBlock
	}
	if err := disk.Truncate(int64(end)); err != nil {
		return root, fmt.Errorf("write hash tree: %w", err)
	}
	from, blocks, size := uint64(0), r.DataBlocks, uint64(r.DataBlockSize)
	for _, l := range levels {
		if err := hashLevel(ctx, disk, from, blocks, size, l.off, threads); err != nil {
			return root, fmt.Errorf("write hash tree: %w", err)
		}
		from, blocks, size = l.off, l.blocks, verityBlock
	}
	top := make([]byte, size)
	if _, err := disk.ReadAt(top, int64(from)); err != nil {
		return root, fmt.Errorf("read hash tree: %w", err)
	}
	return sha256.Sum256(top), nil
}

// verityLevels lays the levels out, lowest first; none for a single data block.
func verityLevels(blocks, off uint64) []verityLevel {
	var levels []verityLevel
	for n := blocks; n > 1; {
		n = (n + verityFanout - 1) / verityFanout
		levels = append(levels, verityLevel{blocks: n})
	}
	for i := len(levels) - 1; i >= 0; i-- {
		levels[i].off = off
		off += levels[i].blocks * verityBlock
	}
	return levels
}

// hashLevel digests blocks of size bytes from offset from and stores the digests
// at offset to. Parts are independent, so each worker takes the next.
func hashLevel(ctx context.Context, disk Disk, from, blocks, size, to uint64, threads int) error {
	per := veritySpan / size
	var (
		next  atomic.Uint64
		wg    sync.WaitGroup
		first sync.Once
		err   error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			data, out := make([]byte, veritySpan), make([]byte, 0, per*sha256.Size)
			for ctx.Err() == nil {
				i := (next.Add(1) - 1) * per
				if i >= blocks {
					return
				}
				p := data[:min(per, blocks-i)*size]
				if e := hashSpan(disk, p, from+i*size, size, out, to+i*sha256.Size); e != nil {
					first.Do(func() { err = e; cancel() })
				}
			}
		}()
	}
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// hashSpan reads p, digests it block by block and writes the digests.
func hashSpan(disk Disk, p []byte, from, size uint64, out []byte, to uint64) error {
	if _, err := disk.ReadAt(p, int64(from)); err != nil {
		return err
	}
	for ; len(p) > 0; p = p[size:] {
		sum := sha256.Sum256(p[:size])
		out = append(out, sum[:]...)
	}
	_, err := disk.WriteAt(out, int64(to))
	return err
}
