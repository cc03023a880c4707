package backends

import (
	"vrafs/backend"
	"vrafs/backend/hedge"
	"vrafs/backend/limit"
	"vrafs/internal/hosts"
)

// A Network is what the network back ends of a process share. Its fields are set once,
// before the first Open, and may be nil.
type Network struct {
	// Bytes bounds what is under way at once.
	Bytes *limit.Bytes
	// Hosts says which servers are asked.
	Hosts *hosts.Table
	// Hedge asks a second time for what is late.
	Hedge *hedge.Hedger
}

// wrap puts around a back end what all of them need.
func (n *Network) wrap(blobs backend.Opener) backend.Opener {
	if n.Hedge != nil {
		blobs = n.Hedge.Wrap(blobs)
	}
	if n.Bytes != nil {
		blobs = n.Bytes.Wrap(blobs)
	}
	return blobs
}
