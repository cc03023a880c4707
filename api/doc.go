// Package api is the daemon's HTTP control API over a Unix socket, as nydusd's
// clients know it.
//
//	client            api                             Daemon (given by the caller)
//	  | request        |                                |
//	  |--------------->| route, method, query, body     |
//	  |                |------------------------------->| Do, Mount, Metrics, ...
//	  |                |<-------------------------------| value or error
//	  |<---------------| 200 + JSON | 204 | status + {"code","message"}
//
// Clients are as trusted as whoever may open the socket; still a body is bounded
// before it is read, nothing of a request is logged, and no answer carries a
// secret as long as the Daemon's values don't. Nothing here times out: a client
// may hold a silent connection for ever and take its end for the daemon's.
//
// Handlers run concurrently, so a Daemon is called from many goroutines at once.
//
// Source: nydusd's user-visible surface, section 2.
package api
