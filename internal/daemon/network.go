package daemon

import (
	"time"

	"vrafs/backend/hedge"
	"vrafs/backend/limit"
	"vrafs/backend/pace"
	"vrafs/backend/window"
	"vrafs/internal/backends"
	"vrafs/internal/dragonfly"
	"vrafs/internal/hosts"
)

// newNetwork makes what the back ends of all mounts share.
func (d *Daemon) newNetwork() *backends.Network {
	bytes := limit.New(d.cfg.Limits.FetchBytes)
	return &backends.Network{
		Bytes: bytes,
		Pace:  pace.New(pace.Rates{All: d.cfg.Limits.Bandwidth, Prefetch: d.cfg.Limits.PrefetchBandwidth}),
		Hosts: hosts.New(hosts.Options{Report: d.hostChanged}),
		Hedge: hedge.New(hedge.Options{Room: bytes.Try}),

		CredentialHelper: d.cfg.CredentialHelper,

		Windows: window.NewMemory(d.cfg.Limits.FetchBytes / 4),
		Dragonfly: dragonfly.New(func(err error) {
			if _, due := d.troubles.meet(trouble{what: "dragonfly"}, time.Now()); due {
				d.events.add(err.Error())
				d.log.Warn("no answer from a Dragonfly scheduler", "err", err)
			}
		}),
	}
}

// hostChanged tells of a server that is left alone, and of its return.
func (d *Daemon) hostChanged(c hosts.Change) {
	what := map[bool]string{true: "host is left alone for moments", false: "host answers again"}[c.Away]
	if _, due := d.troubles.meet(trouble{what: what, host: c.Host}, time.Now()); !due {
		return
	}
	if c.Away {
		d.log.Warn(what, "host", c.Host, "failures", c.Failures, "err", c.Cause)
	} else {
		d.log.Info(what, "host", c.Host, "failures", c.Failures, "after", c.Lasted.Round(time.Millisecond))
	}
}

// networkFamilies are the counters of servers.
func networkFamilies(s *familySet, n *backends.Network) {
	s.counter("vrafs_backend_retries_total", "Reads of back ends that were tried again.", n.Retries())
	h := n.Hedge.Stats()
	s.counter("vrafs_hedge_requests_total", "Second requests beside one that was late.", h.Sent)
	s.counter("vrafs_hedge_wins_total", "Of them, those that were faster.", h.Won)
	s.counter("vrafs_stream_requests_total", "Requests for the rest of a blob that a prefetch reads in order.", n.Streams.Requests.Load())
	s.counter("vrafs_stream_resumes_total", "Of them, those that went on where another had ended.", n.Streams.Resumed.Load())
	s.counter("vrafs_stream_expirations_total", "Those that were ended because nothing was read of them for long.", n.Streams.Expired.Load())
	s.counter("vrafs_stream_bytes_total", "Bytes that were read of them.", n.Streams.Bytes.Load())
	w := n.Windows.Stats()
	s.counter("vrafs_window_edges_total", "Windows that were read through a proxy for a part of them.", w.Asked)
	s.counter("vrafs_window_reuses_total", "Reads that found their window in memory.", w.Reused)
	s.gauge("vrafs_window_bytes", "Bytes of windows that are kept in memory.", float64(w.Bytes))
	for _, p := range n.Places() {
		s.gauge("vrafs_place_used", "Whether a proxy or mirror is used; 0 while reads pass by it.", float(!p.Sick), "kind", p.Kind, "host", p.Host)
	}
	for _, h := range n.Hosts.Stats() {
		label := []string{"host", h.Host}
		s.counter("vrafs_host_requests_total", "Requests that were sent to a server or proxy.", h.Requests, label...)
		s.counter("vrafs_host_failures_total", "Of them, those without an answer or with a status from 500 on.", h.Failed, label...)
		s.counter("vrafs_host_refused_total", "Requests that were not sent, since the host was left alone.", h.Refused, label...)
		s.counter("vrafs_host_bytes_total", "Bytes that came from a server or proxy.", h.Bytes, label...)
		s.gauge("vrafs_host_away", "Whether a server is left alone after failures.", float(h.Away), label...)
	}
}

func float(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
