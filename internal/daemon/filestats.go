package daemon

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"vrafs/api"
	"vrafs/fusesrv"
)

// fileStats is what the options iostats_files, access_pattern and
// latest_read_files of a configuration keep about single files. It costs a lock
// per request, so it is there only if one of them is on.
type fileStats struct {
	accounts, pattern, latest bool

	mu    sync.Mutex
	files map[uint64]*fileRecord // grows up to the number of the image's inodes
}

type fileRecord struct {
	stats  api.FileStats
	first  time.Time // of the first read
	reads  uint64
	recent bool // read since latest was asked for
}

// observe counts one request to node. Nodes that requests fail on may not exist
// and are not remembered.
func (f *fileStats) observe(op fusesrv.Opcode, node uint64, e syscall.Errno, bytes int) {
	i, ok := opIndex[op]
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.files[node]
	if r == nil {
		if e != 0 {
			return
		}
		r = &fileRecord{}
		f.files[node] = r
	}
	r.stats.TotalFops++
	if e != 0 {
		r.stats.FopErrors[i]++
		return
	}
	r.stats.FopHits[i]++
	if op != fusesrv.OpRead {
		return
	}
	r.stats.DataRead += uint64(bytes)
	r.stats.BlockCountRead[api.SizeBucket(uint64(bytes))]++
	if r.reads == 0 {
		r.first = time.Now()
	}
	r.reads++
	r.recent = true
}

// byInode is every file's account; empty if they are off.
func (f *fileStats) byInode() map[uint64]api.FileStats {
	out := map[uint64]api.FileStats{}
	if f == nil || !f.accounts {
		return out
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for ino, r := range f.files {
		out[ino] = r.stats
	}
	return out
}

// recentReads lists the inodes read since the last call as ranges: [from, to], or
// [one].
func (f *fileStats) recentReads() [][]uint64 {
	out := [][]uint64{}
	if f == nil || !f.latest {
		return out
	}
	var inos []uint64
	f.mu.Lock()
	for ino, r := range f.files {
		if r.recent {
			inos = append(inos, ino)
			r.recent = false
		}
	}
	f.mu.Unlock()
	slices.Sort(inos)
	for i := 0; i < len(inos); {
		j := i
		for j+1 < len(inos) && inos[j+1] == inos[j]+1 {
			j++
		}
		r := []uint64{inos[i]}
		if j > i {
			r = append(r, inos[j])
		}
		out = append(out, r)
		i = j + 1
	}
	return out
}

// patterns lists the files that were read, in the order of their first read.
func (f *fileStats) patterns() []api.AccessPattern {
	out := []api.AccessPattern{}
	if f == nil || !f.pattern {
		return out
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for ino, r := range f.files {
		if r.reads > 0 {
			out = append(out, api.AccessPattern{Ino: ino, NrRead: r.reads,
				FirstAccessTimeSecs: uint64(r.first.Unix()), FirstAccessTimeNanos: uint32(r.first.Nanosecond())})
		}
	}
	slices.SortFunc(out, func(a, b api.AccessPattern) int {
		if a.FirstAccessTimeSecs != b.FirstAccessTimeSecs {
			return int(int64(a.FirstAccessTimeSecs) - int64(b.FirstAccessTimeSecs))
		}
		return int(a.FirstAccessTimeNanos) - int(b.FirstAccessTimeNanos)
	})
	return out
}
