package daemon

import (
	"errors"
	"log/slog"
	"testing"

	"vrafs/internal/hosts"
)

// TestFailuresOfHostsClearByThemselves in the metrics: with the answer that ends them.
func TestFailuresOfHostsClearByThemselves(t *testing.T) {
	d := &Daemon{log: slog.New(slog.DiscardHandler)}
	n := d.newNetwork()
	away := func() float64 {
		s := &familySet{index: map[string]int{}}
		networkFamilies(s, n)
		i, ok := s.index["vrafs_host_away"]
		if !ok || len(s.list[i].Samples) != 1 {
			t.Fatalf("families %+v", s.list)
		}
		return s.list[i].Samples[0].Value
	}
	h := n.Hosts.Host("h:1")
	early, err := h.Enter()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		v, err := h.Enter()
		if err != nil {
			t.Fatal(err)
		}
		v.Leave(hosts.Failed, 0, errors.New("connection refused"))
	}
	if _, err := h.Enter(); err == nil || away() != 1 {
		t.Errorf("after five failures: %v, away %v", err, away())
	}
	early.Leave(hosts.Alive, 1, nil)
	if away() != 0 {
		t.Error("a host that answered is still left alone")
	}
}
