package vhostusertest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// FUSE opcodes that the Client's methods send (FUSE 7.x, fuse_opcode).
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opReadlink    = 5
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opGetxattr    = 22
	opListxattr   = 23
	opInit        = 26
	opOpendir     = 27
	opReleasedir  = 29
	opDestroy     = 38
	opReaddirplus = 44
)

// An Attr is struct fuse_attr.
type Attr struct {
	Ino, Size, Blocks, Atime, Mtime, Ctime       uint64
	AtimeNsec, MtimeNsec, CtimeNsec, Mode, Nlink uint32
	UID, GID, Rdev, Blksize, Flags               uint32
}

func attrAt(b []byte) (a Attr) {
	le := binary.LittleEndian
	for i, p := range []*uint64{&a.Ino, &a.Size, &a.Blocks, &a.Atime, &a.Mtime, &a.Ctime} {
		*p = le.Uint64(b[8*i:])
	}
	for i, p := range []*uint32{&a.AtimeNsec, &a.MtimeNsec, &a.CtimeNsec, &a.Mode, &a.Nlink, &a.UID, &a.GID, &a.Rdev,
		&a.Blksize, &a.Flags} {
		*p = le.Uint32(b[48+4*i:])
	}
	return a
}

const (
	attrSize  = 88
	entrySize = 40 + attrSize
)

// An Entry is struct fuse_entry_out. Node 0 means that the name does not exist.
type Entry struct {
	Node, Generation, EntryValid, AttrValid uint64
	EntryValidNsec, AttrValidNsec           uint32
	Attr                                    Attr
}

func entryAt(b []byte) Entry {
	le := binary.LittleEndian
	return Entry{Node: le.Uint64(b), Generation: le.Uint64(b[8:]), EntryValid: le.Uint64(b[16:]), AttrValid: le.Uint64(b[24:]),
		EntryValidNsec: le.Uint32(b[32:]), AttrValidNsec: le.Uint32(b[36:]), Attr: attrAt(b[40:])}
}

// An Init is what the two sides agree on: struct fuse_init_in and fuse_init_out.
type Init struct {
	Major, Minor, MaxReadahead uint32
	Flags                      uint64 // flags and flags2
	MaxWrite, TimeGran         uint32 // of the reply
	MaxPages                   uint16 // of the reply
}

// Init sends FUSE_INIT as a guest kernel of that minor version and those flags
// does. Bit 30 of the flags (INIT_EXT) makes the request long.
func (c *Client) Init(in Init) (Init, error) {
	const initExt = 1 << 30
	le := binary.LittleEndian
	args := make([]byte, 16, 64)
	for i, v := range []uint32{in.Major, in.Minor, in.MaxReadahead, uint32(in.Flags)} {
		le.PutUint32(args[4*i:], v)
	}
	if in.Flags&initExt != 0 {
		args = le.AppendUint32(args, uint32(in.Flags>>32))
		args = args[:64]
	}
	r, err := c.Do(&Request{Op: opInit, Args: args, Room: 64})
	if err != nil {
		return Init{}, fmt.Errorf("INIT: %w", err)
	}
	b := make([]byte, 64)
	copy(b, r.Body) // old minors are answered with less
	return Init{Major: le.Uint32(b), Minor: le.Uint32(b[4:]), MaxReadahead: le.Uint32(b[8:]),
		Flags:    uint64(le.Uint32(b[12:])) | uint64(le.Uint32(b[32:]))<<32,
		MaxWrite: le.Uint32(b[20:]), TimeGran: le.Uint32(b[24:]), MaxPages: le.Uint16(b[28:])}, nil
}

// Destroy ends the FUSE session.
func (c *Client) Destroy() error {
	_, err := c.Do(&Request{Op: opDestroy})
	return err
}

// body checks the length of a fixed-size reply.
func body(r Reply, err error, n int) ([]byte, error) {
	if err == nil && len(r.Body) != n {
		err = fmt.Errorf("%w: reply body of %d bytes, wanted %d", ErrBackEnd, len(r.Body), n)
	}
	return r.Body, err
}

// Lookup looks name up in directory parent.
func (c *Client) Lookup(parent uint64, name string) (Entry, error) {
	r, err := c.Do(&Request{Op: opLookup, Node: parent, Args: append([]byte(name), 0), Room: entrySize})
	b, err := body(r, err, entrySize)
	if err != nil {
		return Entry{}, err
	}
	return entryAt(b), nil
}

// Forget drops n lookups of node. It is a request without reply; Forget returns
// when the back-end gave its buffer back.
func (c *Client) Forget(node, n uint64) error {
	_, err := c.Do(&Request{Op: opForget, Node: node, Args: binary.LittleEndian.AppendUint64(nil, n), NoReply: true})
	return err
}

// Getattr returns node's attributes.
func (c *Client) Getattr(node uint64) (Attr, error) {
	r, err := c.Do(&Request{Op: opGetattr, Node: node, Args: make([]byte, 16), Room: 16 + attrSize})
	b, err := body(r, err, 16+attrSize)
	if err != nil {
		return Attr{}, err
	}
	return attrAt(b[16:]), nil
}

// Readlink returns where symbolic link node points.
func (c *Client) Readlink(node uint64) (string, error) {
	r, err := c.Do(&Request{Op: opReadlink, Node: node, Room: pageSize})
	return string(r.Body), err
}

// Open opens a file or, with dir, a directory, and returns its handle and the
// FOPEN flags.
func (c *Client) Open(node uint64, flags uint32, dir bool) (fh uint64, open uint32, err error) {
	op := uint32(opOpen)
	if dir {
		op = opOpendir
	}
	args := make([]byte, 8)
	binary.LittleEndian.PutUint32(args, flags)
	r, err := c.Do(&Request{Op: op, Node: node, Args: args, Room: 16})
	b, err := body(r, err, 16)
	if err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), nil
}

// Release closes a handle of a file or, with dir, of a directory.
func (c *Client) Release(node, fh uint64, dir bool) error {
	op := uint32(opRelease)
	if dir {
		op = opReleasedir
	}
	_, err := c.Do(&Request{Op: op, Node: node, Args: append(binary.LittleEndian.AppendUint64(nil, fh), make([]byte, 16)...)})
	return err
}

// ReadArgs is struct fuse_read_in, for READ and the READDIRs.
func ReadArgs(fh, off uint64, size uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(le.AppendUint64(make([]byte, 0, 40), fh), off)
	return le.AppendUint32(b, size)[:40]
}

// Read reads up to n bytes at off. The bytes are good until the next request.
func (c *Client) Read(node, fh, off uint64, n int) ([]byte, error) {
	r, err := c.Do(&Request{Op: opRead, Node: node, Args: ReadArgs(fh, off, uint32(n)), Room: n})
	return r.Body, err
}

// A DirEntry is struct fuse_direntplus.
type DirEntry struct {
	Entry Entry
	Ino   uint64
	Off   uint64 // where to go on after this entry
	Type  uint32
	Name  string
}

// ReadDirPlus reads directory entries after offset off into up to n bytes of
// reply. No entries means the end.
func (c *Client) ReadDirPlus(node, fh, off uint64, n int) ([]DirEntry, error) {
	r, err := c.Do(&Request{Op: opReaddirplus, Node: node, Args: ReadArgs(fh, off, uint32(n)), Room: n})
	if err != nil {
		return nil, err
	}
	return ParseDirPlus(r.Body)
}

// ParseDirPlus decodes the body of a READDIRPLUS reply.
func ParseDirPlus(b []byte) ([]DirEntry, error) {
	const fixed = entrySize + 24
	le := binary.LittleEndian
	var all []DirEntry
	for len(b) > 0 {
		if len(b) < fixed {
			return all, fmt.Errorf("%w: directory entry of %d bytes", ErrBackEnd, len(b))
		}
		name := int(le.Uint32(b[entrySize+16:]))
		size := (fixed + name + 7) &^ 7
		if name == 0 || name > 255 || size > len(b) || bytes.IndexByte(b[fixed:fixed+name], 0) >= 0 {
			return all, fmt.Errorf("%w: directory entry with a name of %d bytes in %d", ErrBackEnd, name, len(b))
		}
		all = append(all, DirEntry{Entry: entryAt(b), Ino: le.Uint64(b[entrySize:]), Off: le.Uint64(b[entrySize+8:]),
			Type: le.Uint32(b[entrySize+20:]), Name: string(b[fixed : fixed+name])})
		b = b[size:]
	}
	return all, nil
}

// Getxattr returns a value of up to n bytes.
func (c *Client) Getxattr(node uint64, name string, n int) ([]byte, error) {
	args := append(binary.LittleEndian.AppendUint32(nil, uint32(n)), 0, 0, 0, 0)
	r, err := c.Do(&Request{Op: opGetxattr, Node: node, Args: append(append(args, name...), 0), Room: n})
	return r.Body, err
}

// Listxattr returns the names, each with its NUL, in up to n bytes.
func (c *Client) Listxattr(node uint64, n int) ([]byte, error) {
	r, err := c.Do(&Request{Op: opListxattr, Node: node,
		Args: append(binary.LittleEndian.AppendUint32(nil, uint32(n)), 0, 0, 0, 0), Room: n})
	return r.Body, err
}

// Statfs returns struct fuse_kstatfs (80 bytes).
func (c *Client) Statfs(node uint64) ([]byte, error) {
	r, err := c.Do(&Request{Op: opStatfs, Node: node, Room: 80})
	return body(r, err, 80)
}
