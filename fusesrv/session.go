package fusesrv

import "syscall"

const (
	// Major and Minor are the protocol version spoken.
	Major = 7
	Minor = 45

	// minMinor is that of the oldest guest served.
	minMinor = 27

	initOutSizeShort = 8 // to a guest of a later major version
	maxPages         = 256
	maxBackground    = 256
	congestion       = 192
)

// DefaultFlags is what a connection is offered unless the FS or the transport
// says otherwise.
const DefaultFlags = AsyncRead | ExportSupport | DoReaddirplus | ReaddirplusAuto | AsyncDIO | ParallelDirops | MaxPages |
	CacheSymlinks | ExplicitInvalData | AllowIDMap

// Settings are what INIT agreed on. They may be stored and given to Restore by
// another process that goes on with the connection.
type Settings struct {
	Major, Minor  uint32 // the guest's
	Flags         InitFlags
	MaxReadahead  uint32 // bytes
	MaxWrite      uint32 // bytes
	MaxPages      uint16
	MaxBackground uint16
	Congestion    uint16
	MapAlignment  uint16 // log2 of bytes, with MapAlignment
	MaxStackDepth uint32 // with Passthrough
	// NoOpen and NoOpendir say that OPEN and OPENDIR are answered ENOSYS, so that
	// the guest never sends them again.
	NoOpen, NoOpendir bool
}

// none are the settings before INIT.
var none Settings

// Settings returns what INIT agreed on, zero before that. They must not be
// changed.
func (s *Server) Settings() *Settings {
	if t := s.settings.Load(); t != nil {
		return t
	}
	return &none
}

// Restore makes the server go on with a connection that INIT was seen on by
// another process. The FS is not asked.
func (s *Server) Restore(t Settings) { s.settings.Store(&t) }

// Reset ends the session, as DESTROY does.
func (s *Server) Reset() {
	if s.settings.Swap(nil) != nil {
		s.fs.Destroy()
		s.changed()
	}
}

// changed tells that Settings are others.
func (s *Server) changed() {
	if s.o.Changed != nil {
		s.o.Changed(s.Settings())
	}
}

// callDestroy ends the session.
func callDestroy(w *Worker) syscall.Errno {
	w.s.Reset()
	return 0
}

// callInit starts a session (vhost-user-fs 4.4).
func callInit(w *Worker) syscall.Errno {
	in := &w.in.init
	var b [initOutSize]byte
	copy(b[:], w.args)
	in.decode(b[:])
	if len(w.args) < 20 || InitFlags(in.Flags)&InitExt == 0 {
		in.Flags2 = 0
	}
	switch {
	case in.Major > Major: // wait for a second INIT
		le.PutUint32(b[:], Major)
		le.PutUint32(b[4:], Minor)
		return w.reply.Bytes(b[:initOutSizeShort])
	case in.Major < Major || in.Minor < minMinor:
		return syscall.EPROTO
	case w.reply.Room() < initOutSize:
		return syscall.EINVAL
	}
	w.s.Reset()
	t := w.s.propose(in)
	offer := InitFlags(in.Flags) | InitFlags(in.Flags2)<<32
	if e := w.s.fs.Init(offer, t); e != 0 {
		return e
	}
	t.agree(offer)
	w.s.settings.Store(t)
	w.s.changed()
	out := t.reply()
	out.encode(b[:])
	return w.reply.Bytes(b[:])
}

// propose returns what the server would like to agree on.
func (s *Server) propose(in *InitIn) *Settings {
	return &Settings{
		Major: in.Major, Minor: in.Minor,
		Flags:         (DefaultFlags | s.o.Want) &^ s.o.Without,
		MaxReadahead:  min(in.MaxReadahead, s.o.MaxReadahead),
		MaxWrite:      s.o.MaxWrite,
		MaxPages:      maxPages,
		MaxBackground: maxBackground,
		Congestion:    congestion,
	}
}

// agree takes away what the guest did not offer.
func (t *Settings) agree(offer InitFlags) {
	if offer&NoOpenSupport == 0 {
		t.NoOpen = false
	}
	if offer&NoOpendirSupport == 0 {
		t.NoOpendir = false
	}
	t.Flags &= offer &^ InitExt
	if t.Flags&^initBasic != 0 {
		t.Flags |= InitExt
	}
}

// reply returns the settings as INIT answers them.
func (t *Settings) reply() InitOut {
	out := InitOut{
		Major: Major, Minor: Minor, MaxReadahead: t.MaxReadahead,
		Flags: uint32(t.Flags), Flags2: uint32(t.Flags >> 32),
		MaxBackground: t.MaxBackground, CongestionThreshold: t.Congestion,
		MaxWrite: t.MaxWrite, TimeGran: 1,
	}
	if t.Flags&MaxPages != 0 {
		out.MaxPages = t.MaxPages
	}
	if t.Flags&MapAlignment != 0 {
		out.MapAlignment = t.MapAlignment
	}
	if t.Flags&Passthrough != 0 {
		out.MaxStackDepth = t.MaxStackDepth
	}
	return out
}
