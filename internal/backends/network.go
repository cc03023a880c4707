package backends

import (
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
}
