package daemon

import (
	"sync/atomic"
	"time"

	"vrafs/api"
)

// backendStats count the back-end requests of one mount.
type backendStats struct {
	count, errors, bytes atomic.Uint64
	millis               atomic.Uint64
	failing              atomic.Uint64 // requests in a row until now
	sizeMillis           [api.NumBuckets]atomic.Uint64
	sizes                [api.NumBuckets]atomic.Uint64
	causes               causes
	cross                [api.NumBuckets][api.NumBuckets]atomic.Uint64
}

// observe counts one request.
func (s *backendStats) observe(bytes int, took time.Duration, err error) {
	s.count.Add(1)
	if err != nil {
		s.errors.Add(1)
		s.failing.Add(1)
		s.causes.add(err)
		return
	}
	s.failing.Store(0)
	ms := uint64(took.Milliseconds())
	size := api.SizeBucket(uint64(bytes))
	s.bytes.Add(uint64(bytes))
	s.millis.Add(ms)
	s.sizeMillis[size].Add(ms)
	s.sizes[size].Add(1)
	s.cross[size][api.BackendLatencyBucket(ms)].Add(1)
}

// wrong counts data of a request that seemed to succeed.
func (s *backendStats) wrong(err error) {
	s.errors.Add(1)
	s.causes.add(err)
}

func (s *backendStats) snapshot(backendType string) api.BackendStats {
	out := api.BackendStats{
		BackendType: backendType,
		ReadCount:   s.count.Load(), ReadErrors: s.errors.Load(), ReadAmountTotal: s.bytes.Load(),
		ReadCumulativeLatencyTotal: s.millis.Load(),
	}
	for i := range api.NumBuckets {
		out.ReadCumulativeLatencyDist[i] = s.sizeMillis[i].Load()
		out.ReadCountBlockSizeDist[i] = s.sizes[i].Load()
		for j := range api.NumBuckets {
			out.ReadLatencySizesDist[i][j] = s.cross[i][j].Load()
		}
	}
	return out
}

// Slow back-end requests are worth a line (nydusd, section 1.8).
const (
	slowRead      = 250 * time.Millisecond
	slowLargeRead = time.Second
	largeRead     = 4 << 20
)

func isSlow(bytes int, took time.Duration) bool {
	if bytes > largeRead {
		return took >= slowLargeRead
	}
	return took >= slowRead
}
