package virtqueue

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNotFrozen is the class of queues that no successor can go on with now.
var ErrNotFrozen = errors.New("ring can't be handed over")

// Freeze ends the queue as Close does, for a successor that goes on exactly here:
// with the chains that were taken and not completed, in any order, which become
// the successor's Config.Taken. What was pushed is published, and call says
// whether the driver wants to hear of it. Where the in-flight region tells a
// successor what was taken, the list is empty. A packed ring without such a region
// can only be frozen when nothing is in flight. The popping goroutine must have
// ended. After an error, which is of class ErrNotFrozen, the queue goes on.
func (q *Queue) Freeze() (heads []uint16, call bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.broken {
		return nil, false, fmt.Errorf("%w: it was stopped", ErrNotFrozen)
	}
	call = q.flush()
	if len(q.batch) != 0 {
		return nil, call, fmt.Errorf("%w: it is not in the memory table", ErrNotFrozen)
	}
	if q.cfg.Inflight == nil {
		heads = slices.Clone(q.resubmit) // a predecessor's, not popped again yet
		for h := range q.busy {
			if q.busy[h].Load() == taken {
				heads = append(heads, uint16(h))
			}
		}
		if q.cfg.Packed && len(heads) != 0 {
			return nil, call, fmt.Errorf("%w: %d requests of a packed ring are in flight", ErrNotFrozen, len(heads))
		}
	}
	q.close()
	return heads, call, nil
}

// takeOver prepares to pop again what a predecessor had taken.
func (q *Queue) takeOver() error {
	if len(q.cfg.Taken) == 0 {
		return nil
	}
	if q.cfg.Packed || q.cfg.Inflight != nil || len(q.cfg.Taken) > q.cfg.Size {
		return &RingError{"taken chains", uint64(len(q.cfg.Taken)), uint64(q.size), "not of an untracked split ring of"}
	}
	seen := make([]bool, q.size)
	for _, h := range q.cfg.Taken {
		if uint32(h) >= q.size || seen[h] {
			return &RingError{"taken head", uint64(h), uint64(q.size), "there twice, or not below"}
		}
		seen[h] = true
	}
	q.resubmit = slices.Clone(q.cfg.Taken)
	q.uncalled = true // that life may have ended between the used ring and the call
	return nil
}
