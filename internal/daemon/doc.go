// Package daemon is the composition root: it turns a configuration into running
// parts and answers the control API for them.
//
//	Config ---> Start
//	              |-- transport: vhost (socket S)                         requests
//	              |       |-- fusesrv.Server --> mountfs --> imagefs ...  per mount
//	              |       `-- S.state, or the keeper: what a killed daemon's successor needs
//	              |-- mounts: place -> image (bootload, blobcache, back end)
//	              |-- machine: INIT -> READY -> RUNNING ...
//	              `-- api.Serve on socket A                               commands
//	Wait <--- signal (context) | unmounted from outside | orphaned | API exit
//
// Trust: configuration, command line and API clients are the operator's. Guests,
// front-ends, images and blobs are judged by the packages that read them; what
// they can make this package do is bounded and logged at a bounded rate. A
// supervisor is the operator's, too, and with it the daemon that it leads to, which
// says what is mounted and open; what they send is parsed like any peer's. Secrets
// of configurations go into back ends and into the state file (mode 0600), and
// into no log, error or answer.
//
// Concurrency: API methods are called from many goroutines. Lock order:
// machine.mu, shares.mu, saves.mu, mountTable.mu, ownership.mu; no lock is held
// while an image is opened. Start returns when the daemon serves; Wait ends everything that Start began.
//
// Source: nydusd's user-visible surface, sections 1.8, 1.9, 2 and 4.7; kata.md,
// sections 1.3 to 1.8; docs/decisions/0011-a-keeper.md and 0019-upgrade-in-place.md.
package daemon
