package fusesrvtest

import (
	"encoding/binary"
	"fmt"

	"vrafs/fusesrv"
)

// A T is a test: one of package testing or of rapid.
type T interface {
	Helper()
	Fatal(args ...any)
}

// Args returns the wire form of parts: structures of fusesrv, byte slices, and
// strings, which become names with their NUL. What has none ends the test.
func Args(t T, parts ...any) []byte {
	t.Helper()
	b, err := encode(parts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(parts ...any) (b []byte, err error) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(append(b, p...), 0)
		case []byte:
			b = append(b, p...)
		default:
			if b, err = binary.Append(b, le, p); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// decode reads a reply body into out, which it must fit.
func decode(body []byte, out any) error {
	if want := binary.Size(out); len(body) != want {
		return fmt.Errorf("%w: body of %d bytes, %T has %d", ErrServer, len(body), out, want)
	}
	_, err := binary.Decode(body, le, out)
	return err
}

// call sends a request with the parts as arguments, and room for a body.
func call(c Caller, op fusesrv.Opcode, node uint64, room int, parts ...any) ([]byte, error) {
	args, err := encode(parts...)
	if err != nil {
		return nil, err
	}
	return c.Call(op, node, args, room)
}

// ask is call for a reply that has one structure, out, as its body.
func ask(c Caller, op fusesrv.Opcode, node uint64, out any, parts ...any) error {
	b, err := call(c, op, node, binary.Size(out), parts...)
	if err == nil {
		err = decode(b, out)
	}
	return err
}

// Init starts a session as a guest of that minor version does.
func Init(c Caller, minor uint32, offer fusesrv.InitFlags) (out fusesrv.InitOut, err error) {
	in := fusesrv.InitIn{Major: 7, Minor: minor, MaxReadahead: 128 << 10, Flags: uint32(offer), Flags2: uint32(offer >> 32)}
	args, err := encode(in)
	if err != nil {
		return out, err
	}
	if minor < 36 {
		args = args[:16]
	}
	err = ask(c, fusesrv.OpInit, 0, &out, args)
	return out, err
}

// Lookup finds a child.
func Lookup(c Caller, node uint64, name string) (e fusesrv.EntryOut, err error) {
	err = ask(c, fusesrv.OpLookup, node, &e, name)
	return e, err
}

// Getattr shows a node.
func Getattr(c Caller, node uint64) (a fusesrv.AttrOut, err error) {
	err = ask(c, fusesrv.OpGetattr, node, &a, fusesrv.GetattrIn{})
	return a, err
}

// Open opens a file or directory.
func Open(c Caller, op fusesrv.Opcode, node uint64, flags uint32) (o fusesrv.OpenOut, err error) {
	err = ask(c, op, node, &o, fusesrv.OpenIn{Flags: flags})
	return o, err
}

// Read reads up to size bytes at off. They are good until the next call.
func Read(c Caller, node, fh, off uint64, size int) ([]byte, error) {
	return call(c, fusesrv.OpRead, node, size, fusesrv.ReadIn{FH: fh, Offset: off, Size: uint32(size)})
}

// A DirEntry is an entry of READDIR or READDIRPLUS.
type DirEntry struct {
	fusesrv.Dirent
	Entry fusesrv.EntryOut // of READDIRPLUS
	Name  string
}

// Readdir reads the entries that fit into size bytes, from a cookie on.
func Readdir(c Caller, plus bool, node, fh, off uint64, size int) ([]DirEntry, error) {
	op := fusesrv.OpReaddir
	if plus {
		op = fusesrv.OpReaddirplus
	}
	b, err := call(c, op, node, size, fusesrv.ReadIn{FH: fh, Offset: off, Size: uint32(size)})
	if err != nil {
		return nil, err
	}
	var list []DirEntry
	for len(b) > 0 {
		var d DirEntry
		n := 0
		if plus {
			if n, err = binary.Decode(b, le, &d.Entry); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrServer, err)
			}
		}
		m, err := binary.Decode(b[n:], le, &d.Dirent)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrServer, err)
		}
		n += m
		end := n + int(d.Namelen)
		padded := (end + 7) &^ 7
		if d.Namelen == 0 || d.Namelen > 255 || padded > len(b) {
			return nil, fmt.Errorf("%w: name of %d bytes", ErrServer, d.Namelen)
		}
		d.Name = string(b[n:end])
		list = append(list, d)
		b = b[padded:]
	}
	return list, nil
}

// List reads a whole directory in steps of size bytes.
func List(c Caller, plus bool, node uint64, size int) (all []DirEntry, err error) {
	for off := uint64(0); ; {
		list, err := Readdir(c, plus, node, 0, off, size)
		if err != nil || len(list) == 0 {
			return all, err
		}
		all = append(all, list...)
		off = list[len(list)-1].Next
	}
}
