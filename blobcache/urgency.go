package blobcache

// An Urgency says who a chunk is fetched for. The greater goes first.
type Urgency uint8

const (
	// Sometime: nobody is known to want it. It makes way for whoever waits.
	Sometime Urgency = iota
	// Soon: it is expected to be read soon, so it comes beside what is waited for.
	Soon
	// now: somebody waits.
	now
)
