package keeper

import "time"

const (
	// calm is how long a server has to run for its end to be no crash in a row.
	calm = 10 * time.Second
	// maxCrashes in a row are followed by a restart.
	maxCrashes = 7
	// firstPause is before the restart after the second crash in a row; it doubles.
	firstPause = 20 * time.Millisecond
	maxPause   = 5 * time.Second
	// killPause is before a restart after an early end that came from outside.
	killPause = 50 * time.Millisecond
)

// A backoff decides when, and whether, a server is started again.
type backoff struct {
	crashes int // in a row
}

// after tells how long to wait with the restart of a server that ran for ran. One
// that was killed, by an operator or for want of memory, isn't to blame, and is
// always started again.
func (b *backoff) after(ran time.Duration, killed bool) (pause time.Duration, again bool) {
	switch {
	case ran >= calm:
		b.crashes = 0
		return 0, true
	case killed:
		return killPause, true
	case b.crashes == maxCrashes:
		return 0, false
	}
	b.crashes++
	return min(firstPause<<(b.crashes-1), maxPause), true
}
