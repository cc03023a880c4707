package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vrafs/backend"
)

func TestTroublesAreToldOfOnceAMinute(t *testing.T) {
	var s troubles
	at := time.Unix(0, 0)
	refused := fmt.Errorf("blob x: %w", &backend.Error{Host: "h:1", Cause: errors.New("connection refused")})
	denied := &backend.Error{Host: "h:1", Status: 403}
	other := &backend.Error{Host: "h:2", Status: 403}
	for i, tt := range []struct {
		after  time.Duration
		err    error
		due    bool
		remark string
	}{
		{0, refused, true, ""},
		{0, denied, true, ""},
		{0, other, true, ""},
		{time.Second, refused, false, ""},
		{time.Second, refused, false, ""},
		{0, denied, false, ""},
		{time.Minute, refused, true, "2 times more since 00:00:00"},
		{0, refused, false, ""},
		{2 * time.Minute, other, true, ""},
	} {
		at = at.Add(tt.after)
		remark, due := s.meet(troubleOf("/a", tt.err), at)
		if due != tt.due || !strings.Contains(remark, tt.remark) || tt.remark == "" && remark != "" {
			t.Errorf("%d: due %v, remark %q", i, due, remark)
		}
	}
}

// TestTroublesAreBounded, as are those that are told of in a minute.
func TestTroublesAreBounded(t *testing.T) {
	var s troubles
	at, due := time.Unix(0, 0), 0
	for round := range 3 {
		for i := range 10 * maxTroubles {
			if _, ok := s.meet(trouble{host: fmt.Sprint(round, i)}, at); ok {
				due++
			}
		}
		at = at.Add(troubleAgain)
	}
	if len(s.m) != maxTroubles || due != 3*maxTroubles {
		t.Errorf("%d remembered, %d told of", len(s.m), due)
	}
}

// TestTroubleIsNewsAfterAChange of what the API set for its mount.
func TestTroubleIsNewsAfterAChange(t *testing.T) {
	var s troubles
	now := time.Now()
	mine, other := trouble{"auth", "h", "/a"}, trouble{"auth", "h", "/b"}
	s.meet(mine, now)
	s.meet(other, now)
	s.over("/a")
	if _, due := s.meet(mine, now); !due {
		t.Error("the same trouble is not told of after the change")
	}
	if _, due := s.meet(other, now); due {
		t.Error("another mount's trouble is told of again")
	}
	s.over("")
	if _, due := s.meet(other, now); !due {
		t.Error("a change for all mounts changes nothing for one")
	}
}
