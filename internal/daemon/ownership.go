package daemon

import "sync"

// An ownership says whose the socket's name and the state file of a guest are: of two
// daemons that hand a guest over one only may write or remove them.
type ownership struct {
	mu    sync.Mutex
	mine  bool
	given bool // it was ours
	ended bool // what was ours is removed, or would be
}

// claim makes it ours.
func (o *ownership) claim() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mine, o.given = true, false
}

// isMine reports whether it is.
func (o *ownership) isMine() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mine
}

// isGiven reports whether it is another's after it was ours.
func (o *ownership) isGiven() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.given
}

// give makes it another's, unless we are ending.
func (o *ownership) give() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.mine || o.ended {
		return false
	}
	o.mine, o.given = false, true
	return true
}

// takeBack makes what was given ours again. False says that it has to be removed.
func (o *ownership) takeBack() bool {
	o.claim()
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ended
}

// end says that we are ending, and reports whether there is something to be removed.
func (o *ownership) end() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	return o.mine
}
