package daemon

import (
	"time"

	"vrafs/api"
	"vrafs/blobcache"
	"vrafs/fusesrv"
)

var errNoCounter = &api.Error{Kind: api.NoCounter}

// Metrics answers the metrics requests. File systems and back ends are named by
// their mountpoint, caches by the id of their configuration.
func (d *Daemon) Metrics(q api.MetricsQuery) (any, error) {
	if q.Kind == api.InflightMetrics {
		return d.inflight()
	}
	if q.Kind == api.BlobcacheMetrics {
		return d.blobcacheMetrics(q)
	}
	m, err := d.counted(q)
	if err != nil {
		return nil, err
	}
	switch q.Kind {
	case api.FSMetrics:
		return m.fsStats(), nil
	case api.BackendMetrics:
		return m.image.backend.snapshot(m.image.config.Backend.Type), nil
	case api.PatternMetrics:
		return m.image.files.patterns(), nil
	case api.FilesMetrics:
		return m.image.fileStats(q.Latest), nil
	}
	return nil, errNoCounter
}

// inflight lists requests under way; none at all is "no content".
func (d *Daemon) inflight() (any, error) {
	list, err := d.tree.inflight()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list, nil
}

// Abort ends the waits of requests.
func (d *Daemon) Abort(q api.AbortQuery) (api.Aborted, error) {
	now := time.Now()
	n := d.tree.abort(func(r fusesrv.Inflight) bool {
		if q.All {
			return now.Sub(r.Start) >= q.Age
		}
		return r.Unique == q.Unique
	})
	if n == 0 && !q.All {
		return api.Aborted{}, errNoCounter
	}
	d.log.Info("requests that waited were ended over the API", "requests", n)
	return api.Aborted{Requests: n}, nil
}

// counted finds the mount of an image that a query means. What is only bound has a back
// end and no file system.
func (d *Daemon) counted(q api.MetricsQuery) (*mounted, error) {
	var found *mounted
	for _, m := range d.mounts.list() {
		bound := m.entry != nil && q.Kind != api.BackendMetrics
		if m.image == nil || bound || q.HasID && m.place != q.ID {
			continue
		}
		if found != nil {
			return nil, errNoCounter // ambiguous
		}
		found = m
	}
	if found == nil {
		return nil, errNoCounter
	}
	return found, nil
}

// opIndex maps opcodes to the indices of fop_hits.
var opIndex = map[fusesrv.Opcode]int{
	fusesrv.OpGetattr: api.OpGetattr, fusesrv.OpStatx: api.OpGetattr,
	fusesrv.OpReadlink: api.OpReadlink,
	fusesrv.OpOpen:     api.OpOpen, fusesrv.OpRelease: api.OpRelease,
	fusesrv.OpRead: api.OpRead, fusesrv.OpStatfs: api.OpStatfs,
	fusesrv.OpGetxattr: api.OpGetxattr, fusesrv.OpListxattr: api.OpListxattr,
	fusesrv.OpOpendir: api.OpOpendir, fusesrv.OpLookup: api.OpLookup,
	fusesrv.OpReaddir: api.OpReaddir, fusesrv.OpReaddirplus: api.OpReaddirplus,
	fusesrv.OpAccess: api.OpAccess, fusesrv.OpForget: api.OpForget, fusesrv.OpBatchForget: api.OpBatchForget,
}

// fsStats are the totals of the requests to one image.
func (m *mounted) fsStats() api.FSStats {
	r := &m.image.config.Rafs
	out := api.FSStats{
		ID: m.place, MeasureLatency: true,
		FilesAccountEnabled: r.IOStatsFiles, AccessPatternEnabled: r.AccessPattern, RecordLatestReadFiles: r.LatestReadFiles,
	}
	t := m.stats.Load().Totals()
	for op, i := range opIndex {
		out.FopHits[i] += t.Hits[op]
		out.FopErrors[i] += t.Errors[op]
		out.FopCumulativeLatencyTotal[i] += uint64(t.Latency[op].Microseconds())
	}
	out.NrOpens = t.Hits[fusesrv.OpOpen] - t.Errors[fusesrv.OpOpen]
	out.DataRead = t.BytesRead
	out.BlockCountRead = t.ReadSizes
	out.ReadLatencyDist = t.ReadLatencies
	return out
}

// blobcacheMetrics adds up the views of the images whose configuration has the id.
func (d *Daemon) blobcacheMetrics(q api.MetricsQuery) (any, error) {
	byID := map[string][]*image{}
	for _, m := range d.mounts.list() {
		if im := m.image; im != nil && (!q.HasID || im.config.ID == q.ID) {
			byID[im.config.ID] = append(byID[im.config.ID], im)
		}
	}
	if len(byID) != 1 {
		return nil, errNoCounter
	}
	out := api.BlobcacheStats{UnderlyingFiles: []string{}}
	for _, images := range byID {
		out.PrefetchWorkers = images[0].config.Cache.Prefetch.Threads
		out.DataAllReady = true
		for _, im := range images {
			s := im.cache.Stats()
			addCache(&out, &s)
		}
	}
	return out, nil
}

func addCache(out *api.BlobcacheStats, s *blobcache.Stats) {
	out.UnderlyingFiles = append(out.UnderlyingFiles, s.Files...)
	out.StorePath = s.Dir
	out.PartialHits += s.PartialHits
	out.WholeHits += s.WholeHits
	out.Total += s.Reads
	out.EntriesCount += s.Entries
	out.PrefetchDataAmount += s.PrefetchBytes
	out.PrefetchRequestsCount += s.PrefetchMerged
	out.PrefetchUnmergedChunks += s.PrefetchChunks
	out.BufferedBackendSize += s.FetchBytes
	out.DataAllReady = out.DataAllReady && s.Ready
	begin, end := s.PrefetchBegin, s.PrefetchEnd
	if !begin.IsZero() {
		out.PrefetchBeginTimeSecs, out.PrefetchBeginTimeMillis = splitTime(begin)
	}
	if !end.IsZero() {
		out.PrefetchEndTimeSecs, out.PrefetchEndTimeMillis = splitTime(end)
		out.PrefetchCumulativeTime += uint64(max(0, end.Sub(begin).Milliseconds()))
	}
}

func splitTime(t time.Time) (secs, millis uint64) {
	return uint64(t.Unix()), uint64(t.Nanosecond() / int(time.Millisecond))
}
