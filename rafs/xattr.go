package rafs

import "bytes"

// An xattrPair is one extended attribute; the full name is prefix + name.
type xattrPair struct {
	prefix string
	name   []byte
	value  []byte
}

// is reports whether the pair's full name is name.
func (p *xattrPair) is(name []byte) bool {
	n := len(p.prefix)
	return len(name) == n+len(p.name) && string(name[:n]) == p.prefix && bytes.Equal(name[n:], p.name)
}

// An xattrWalk visits the extended attributes of one inode.
type xattrWalk struct {
	n   *Inode
	off uint64 // v5 pairs and v6 inline entries: next one
	end uint64

	shared    uint64 // v6: next shared id
	sharedEnd uint64
}

func (n *Inode) xattrs() (xattrWalk, error) {
	w := xattrWalk{n: n}
	switch {
	case n.xattr == 0:
	case n.im.version == V5:
		w.off = n.xattr + V5XattrHeaderSize
		w.end = w.off + le64(n.im.data[n.xattr:])
	default:
		w.end = n.xattr + uint64(n.count)
		w.shared = n.xattr + V6XattrHeaderSize
		w.sharedEnd = w.shared + 4*uint64(n.im.data[n.xattr+V6XattrSharedCountAt])
		w.off = w.sharedEnd
		if w.sharedEnd > w.end {
			return w, corrupt(n.xattr, "xattr.shared_count", "runs past the %d bytes of the area", n.count)
		}
		if w.shared < w.sharedEnd && n.im.xattrs == 0 {
			return w, unsupported(n.xattr, "xattr.shared_count", "shared attributes in an image without an area for them")
		}
	}
	return w, nil
}

// next stores the next attribute in p; false at the end.
func (w *xattrWalk) next(p *xattrPair) (bool, error) {
	if w.n.im.version == V5 {
		return w.nextV5(p)
	}
	if w.shared < w.sharedEnd {
		id := uint64(le32(w.n.im.data[w.shared:]))
		w.shared += 4
		_, err := w.n.im.xattrV6(p, w.n.im.xattrs+id*V6XattrAlign, w.n.im.Size())
		return err == nil, err
	}
	if w.off >= w.end {
		return false, nil
	}
	size, err := w.n.im.xattrV6(p, w.off, w.end)
	w.off += alignUp(size, V6XattrAlign)
	return err == nil, err
}

// nextV5 reads pairs of a u32 size, a name, NUL and a value (section 1.8). Pairs
// without a NUL are passed over.
func (w *xattrWalk) nextV5(p *xattrPair) (bool, error) {
	for w.off < w.end {
		if w.end-w.off < V5XattrPairSize {
			return false, corrupt(w.off, "xattr.pair_size", "%d bytes left", w.end-w.off)
		}
		size := uint64(le32(w.n.im.data[w.off:]))
		pair := w.off + V5XattrPairSize
		if size > w.end-pair {
			return false, corrupt(w.off, "xattr.pair_size", "%d of %d bytes", size, w.end-pair)
		}
		b := w.n.im.data[pair:][:size:size]
		w.off = pair + size
		if z := bytes.IndexByte(b, 0); z > 0 {
			*p = xattrPair{name: b[:z:z], value: b[z+1:]}
			return true, nil
		}
	}
	return false, nil
}

// xattrV6 reads the entry at off, which must end before end, and gives its size
// without padding (section 2.12).
func (im *Image) xattrV6(p *xattrPair, off, end uint64) (uint64, error) {
	if off > end || end-off < V6XattrEntrySize {
		return 0, corrupt(off, "xattr.entry", "runs past the end of its area")
	}
	e := im.data[off:end]
	nameLen := uint64(e[V6XattrNameLenAt])
	index := e[V6XattrNameIndexAt]
	size := V6XattrEntrySize + nameLen + uint64(le16(e[V6XattrValueSizeAt:]))
	if size > uint64(len(e)) {
		return 0, corrupt(off, "xattr.entry", "%d bytes run past the end of its area", size)
	}
	if int(index) >= len(xattrPrefixes) || xattrPrefixes[index] == "" {
		return 0, unsupported(off+V6XattrNameIndexAt, "xattr.name_index", "%#x", index)
	}
	*p = xattrPair{
		prefix: xattrPrefixes[index],
		name:   e[V6XattrEntrySize:][:nameLen:nameLen],
		value:  e[V6XattrEntrySize+nameLen : size : size],
	}
	return size, nil
}

// Xattr gives the value of an extended attribute by its full name, as a view of
// the bootstrap; false if the inode doesn't have it.
func (n *Inode) Xattr(name []byte) ([]byte, bool, error) {
	w, err := n.xattrs()
	if err != nil {
		return nil, false, err
	}
	var p xattrPair
	for {
		ok, err := w.next(&p)
		if !ok || err != nil {
			return nil, false, err
		}
		if p.is(name) {
			return p.value, true, nil
		}
	}
}

// HasXattrs reports whether the inode may have extended attributes.
func (n *Inode) HasXattrs() bool { return n.xattr != 0 }

// AppendXattrNames appends the full names, each ended by NUL, as listxattr(2)
// does, in the order they are stored. It allocates only if dst is too short.
func (n *Inode) AppendXattrNames(dst []byte) ([]byte, error) {
	w, err := n.xattrs()
	if err != nil {
		return dst, err
	}
	var p xattrPair
	for {
		ok, err := w.next(&p)
		if !ok || err != nil {
			return dst, err
		}
		dst = append(dst, p.prefix...)
		dst = append(dst, p.name...)
		dst = append(dst, 0)
	}
}
