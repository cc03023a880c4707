package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"vrafs/backend"
	"vrafs/blobcache"
)

func TestCausesOfBackEndErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want cause
	}{
		{"not_found", fmt.Errorf("x: %w", backend.ErrNotFound), causeNotFound},
		{"not_found_404", &backend.Error{Status: 404, Class: backend.ErrNotFound}, causeNotFound},
		{"unauthorized", &backend.Error{Status: 401, Class: backend.ErrPermanent}, causeDenied},
		{"forbidden", fmt.Errorf("x: %w", &backend.Error{Status: 403, Class: backend.ErrPermanent}), causeDenied},
		{"too_many", &backend.Error{Status: 429}, causeThrottled},
		{"bad_gateway", &backend.Error{Status: 502}, causeServer},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), causeTimeout},
		{"deadline_of_a_connection", &backend.Error{Cause: os.ErrDeadlineExceeded}, causeTimeout},
		{"deadline_of_a_request", &backend.Error{Cause: backend.Timeout("late")}, causeTimeout},
		{"deadline_of_the_kernel", &backend.Error{Cause: os.NewSyscallError("read", syscall.ETIMEDOUT)}, causeTimeout},
		{"reset", &backend.Error{Cause: os.NewSyscallError("read", syscall.ECONNRESET)}, causeOther},
		{"canceled", context.Canceled, causeCanceled},
		{"short", io.ErrUnexpectedEOF, causeShort},
		{"wrong", fmt.Errorf("x: %w", blobcache.ErrDigest), causeWrong},
		{"else", errors.New("no route"), causeOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := causeOf(tt.err); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestErrorsAreCountedByCause(t *testing.T) {
	var b backendStats
	b.observe(0, 0, backend.ErrNotFound)
	b.observe(0, 0, backend.ErrNotFound)
	b.observe(0, 0, context.Canceled)
	s := &familySet{index: map[string]int{}}
	b.causes.families(s, "mountpoint", "/a")
	got := map[string]float64{}
	for _, v := range s.list[0].Samples {
		got[v.Labels[3]] = v.Value
	}
	if len(s.list) != 1 || len(got) != int(numCauses) || got["not_found"] != 2 || got["canceled"] != 1 || got["other"] != 0 {
		t.Errorf("got %+v", s.list)
	}
	if n := b.snapshot("localfs").ReadErrors; n != 3 {
		t.Errorf("%d errors, want 3", n)
	}
}
