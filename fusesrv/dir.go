package fusesrv

// A Dir encodes directory entries into a reply.
type Dir struct {
	// Entry is what AddPlus adds; its NodeID is 0 for "." and "..".
	Entry EntryOut
	// Hide, if set, tells entries to leave out. A lookup that such an entry of
	// READDIRPLUS is counted for is never taken back.
	Hide func(name []byte) bool

	r     *Request
	out   writer
	limit int // bytes of entries
	n     int // of these, done
	full  bool
	buf   [direntplusSize + 256]byte
}

func (d *Dir) bind(r *Request, out *stream, start, size int) {
	d.r, d.out, d.n, d.full, d.Hide = r, out.writer(start), 0, false, nil
	d.limit = min(size, max(0, out.total-start))
}

// Add adds an entry for READDIR: next is the cookie of the entry after it. It
// reports false, and adds nothing, if there is no room.
func (d *Dir) Add(ino, next uint64, typ uint8, name []byte) bool {
	if !d.Fits(len(name), false) {
		return false
	}
	if d.Hide == nil || !d.Hide(name) {
		d.add(0, ino, next, typ, name)
	}
	return true
}

// AddPlus adds d.Entry for READDIRPLUS. It reports false, and adds nothing, if
// there is no room: then no lookup is to be counted.
func (d *Dir) AddPlus(next uint64, typ uint8, name []byte) bool {
	if !d.Fits(len(name), true) {
		return false
	}
	if d.Hide == nil || !d.Hide(name) {
		d.r.view.encodeEntry(&d.Entry, d.buf[:])
		d.add(entryOutSize, d.Entry.Attr.Ino, next, typ, name)
	}
	return true
}

// Len returns the bytes of the entries added.
func (d *Dir) Len() int { return d.n }

// Full reports whether an entry did not fit.
func (d *Dir) Full() bool { return d.full }

// Fits reports whether an entry with a name so long has room. Once one has not,
// nothing more is added.
func (d *Dir) Fits(name int, plus bool) bool {
	need := direntSize + (name+7)&^7
	if plus {
		need += entryOutSize
	}
	if d.full || name == 0 || name > maxName || need > d.limit-d.n {
		d.full = true
	}
	return !d.full
}

// add stores the dirent at d.buf[at:] and copies all up to its end out.
func (d *Dir) add(at int, ino, next uint64, typ uint8, name []byte) {
	e := Dirent{Ino: ino | d.r.view.InoBase, Next: next, Namelen: uint32(len(name)), Type: uint32(typ)}
	e.encode(d.buf[at:])
	at += direntSize
	end := at + (len(name)+7)&^7
	clear(d.buf[at+copy(d.buf[at:], name) : end])
	d.out.write(d.buf[:end])
	d.n += end
}
