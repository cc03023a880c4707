package daemon

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"vrafs/api"
	"vrafs/blobcache"
	"vrafs/fusesrv"
)

// A familySet collects samples by the name of their family, in the order in which
// families were first named.
type familySet struct {
	list  []api.Family
	index map[string]int
}

// add appends a sample; labels are pairs of name and value.
func (s *familySet) add(kind, name, help string, value float64, labels ...string) {
	s.sample(kind, name, help, api.Sample{Value: value, Labels: labels})
}

func (s *familySet) sample(kind, name, help string, v api.Sample) {
	i, ok := s.index[name]
	if !ok {
		i = len(s.list)
		s.index[name] = i
		s.list = append(s.list, api.Family{Name: name, Help: help, Type: kind})
	}
	s.list[i].Samples = append(s.list[i].Samples, v)
}

func (s *familySet) counter(name, help string, value uint64, labels ...string) {
	s.add("counter", name, help, float64(value), labels...)
}

func (s *familySet) gauge(name, help string, value float64, labels ...string) {
	s.add("gauge", name, help, value, labels...)
}

// Families are the counters for Prometheus.
func (d *Daemon) Families() []api.Family {
	s := &familySet{index: map[string]int{}}
	s.gauge("vrafs_info", "The program and its state.", 1, "version", d.cfg.Build.PackageVersion(), "commit", d.cfg.Build.GitCommit, "state", d.machine.now().name())
	s.counter("vrafs_events_total", "Errors worth an operator's look, as listed by /api/v1/daemon/events.", d.events.total())
	d.tree.families(s)
	d.stores.families(s)
	networkFamilies(s, d.network)
	for _, m := range d.mounts.list() {
		s.gauge("vrafs_mounted_seconds", "Time since the mount was made.", time.Since(m.since).Seconds(), "mountpoint", m.place)
		if stats := m.stats.Load(); stats != nil {
			t := stats.Totals()
			requestFamilies(s, &t, m.place)
		}
		if m.image != nil {
			m.image.families(s)
		}
	}
	return s.list
}

// families are the counters of one image.
func (im *image) families(s *familySet) {
	c := im.cache.Stats()
	cacheFamilies(s, &c, im.place)
	b := im.backend.snapshot(im.config.Backend.Type)
	label := []string{"mountpoint", im.place, "type", b.BackendType}
	s.counter("vrafs_backend_requests_total", "Requests to the back end.", b.ReadCount, label...)
	im.backend.causes.families(s, label...)
	s.gauge("vrafs_backend_failing", "Requests in a row that failed until now; 0 while all is well.", float64(im.backend.failing.Load()), label...)
	s.counter("vrafs_backend_bytes_total", "Bytes that came from the back end.", b.ReadAmountTotal, label...)
	s.add("counter", "vrafs_backend_seconds_total", "Time spent in requests to the back end.", float64(b.ReadCumulativeLatencyTotal)/1000, label...)
	im.prefetch.families(s, im.place)
	for _, st := range im.cache.BlobStates() {
		label := []string{"mountpoint", im.place, "blob", st.ID}
		s.gauge("vrafs_blob_chunks", "Chunks of a blob; 0 while unknown.", float64(st.Chunks), label...)
		s.gauge("vrafs_blob_chunks_local", "Chunks of a blob that are in the cache and that this daemon has verified.", float64(st.Verified), label...)
	}
}

// readBounds are the upper bounds of ReadLatencies in seconds.
var readBounds = [...]float64{200e-6, 1e-3, 20e-3, 50e-3, 0.5, 1, 2}

func requestFamilies(s *familySet, t *fusesrv.Totals, place string) {
	for _, op := range slices.Sorted(maps.Keys(opIndex)) {
		if t.Hits[op] == 0 {
			continue
		}
		label := []string{"mountpoint", place, "op", op.String()}
		s.counter("vrafs_requests_total", "File-system requests.", t.Hits[op], label...)
		s.counter("vrafs_request_errors_total", "File-system requests that ended in an error.", t.Errors[op], label...)
		s.add("counter", "vrafs_request_seconds_total", "Time spent in file-system requests.", t.Latency[op].Seconds(), label...)
	}
	s.counter("vrafs_read_bytes_total", "Bytes delivered by reads.", t.BytesRead, "mountpoint", place)
	const name, help = "vrafs_read_seconds", "How long reads took."
	sum := uint64(0)
	for i, n := range t.ReadLatencies {
		sum += n
		bound := "+Inf"
		if i < len(readBounds) {
			bound = strconv.FormatFloat(readBounds[i], 'g', -1, 64)
		}
		s.sample("histogram", name, help, api.Sample{Suffix: "_bucket", Labels: []string{"mountpoint", place, "le", bound}, Value: float64(sum)})
	}
	s.sample("histogram", name, help, api.Sample{Suffix: "_sum", Labels: []string{"mountpoint", place}, Value: t.Latency[fusesrv.OpRead].Seconds()})
	s.sample("histogram", name, help, api.Sample{Suffix: "_count", Labels: []string{"mountpoint", place}, Value: float64(sum)})
}

func cacheFamilies(s *familySet, c *blobcache.Stats, place string) {
	label := []string{"mountpoint", place}
	s.counter("vrafs_cache_reads_total", "Reads that asked the cache.", c.Reads, label...)
	s.counter("vrafs_cache_hits_total", "Reads that needed nothing but the cache.", c.WholeHits, label...)
	if c.Reads > 0 {
		s.gauge("vrafs_cache_hit_ratio", "Share of reads that needed nothing but the cache.", float64(c.WholeHits)/float64(c.Reads), label...)
	}
	s.counter("vrafs_cache_mismatches_total", "Chunks with a wrong digest, of the back end or in a cache file.", c.Mismatches, label...)
	s.counter("vrafs_cache_rejected_total", "Chunks given up after a second fetch.", c.Rejected, label...)
	s.counter("vrafs_cache_unstored_total", "Chunks served without caching, for want of space.", c.Unstored, label...)
	s.counter("vrafs_prefetch_bytes_total", "Bytes that came by prefetch.", c.PrefetchBytes, label...)
}
