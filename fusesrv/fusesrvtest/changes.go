package fusesrvtest

import (
	"encoding/binary"
	"fmt"

	"vrafs/fusesrv"
)

// Requests that change something. Errors are those of a Caller.

// A Created is what CREATE and TMPFILE answer.
type Created struct {
	Entry fusesrv.EntryOut
	Open  fusesrv.OpenOut
}

// Create makes a regular file, or opens one, with flags of open(2).
func Create(c Caller, dir uint64, name string, flags, mode uint32) (out Created, err error) {
	err = ask(c, fusesrv.OpCreate, dir, &out, fusesrv.CreateIn{Flags: flags, Mode: mode}, name)
	return out, err
}

// Tmpfile makes a regular file without a name.
func Tmpfile(c Caller, dir uint64, flags, mode uint32) (out Created, err error) {
	err = ask(c, fusesrv.OpTmpfile, dir, &out, fusesrv.CreateIn{Flags: flags, Mode: mode}, "#1")
	return out, err
}

// Mkdir makes a directory.
func Mkdir(c Caller, dir uint64, name string, mode uint32) (e fusesrv.EntryOut, err error) {
	err = ask(c, fusesrv.OpMkdir, dir, &e, fusesrv.MkdirIn{Mode: mode}, name)
	return e, err
}

// Mknod makes a file of the type in mode.
func Mknod(c Caller, dir uint64, name string, mode, rdev uint32) (e fusesrv.EntryOut, err error) {
	err = ask(c, fusesrv.OpMknod, dir, &e, fusesrv.MknodIn{Mode: mode, Rdev: rdev}, name)
	return e, err
}

// Symlink makes a symlink.
func Symlink(c Caller, dir uint64, name, target string) (e fusesrv.EntryOut, err error) {
	err = ask(c, fusesrv.OpSymlink, dir, &e, name, target)
	return e, err
}

// Link gives a node one more name.
func Link(c Caller, node, dir uint64, name string) (e fusesrv.EntryOut, err error) {
	err = ask(c, fusesrv.OpLink, dir, &e, fusesrv.LinkIn{OldNodeID: node}, name)
	return e, err
}

// Remove is UNLINK or RMDIR.
func Remove(c Caller, op fusesrv.Opcode, dir uint64, name string) error {
	_, err := call(c, op, dir, 0, name)
	return err
}

// Rename is RENAME2.
func Rename(c Caller, dir uint64, name string, to uint64, newName string, flags uint32) error {
	_, err := call(c, fusesrv.OpRename2, dir, 0, fusesrv.RenameIn{NewDir: to, Flags: flags}, name, newName)
	return err
}

// Setattr changes the fields that in.Valid names.
func Setattr(c Caller, node uint64, in fusesrv.SetattrIn) (a fusesrv.AttrOut, err error) {
	err = ask(c, fusesrv.OpSetattr, node, &a, in)
	return a, err
}

// Write writes p and returns how much the server took.
func Write(c Caller, node uint64, in fusesrv.WriteIn, p []byte) (int, error) {
	in.Size = uint32(len(p))
	var out fusesrv.WriteOut
	err := ask(c, fusesrv.OpWrite, node, &out, in, p)
	if err == nil && int(out.Size) > len(p) {
		err = fmt.Errorf("%w: wrote %d of %d bytes", ErrServer, out.Size, len(p))
	}
	return int(out.Size), err
}

// Release closes a file or directory.
func Release(c Caller, op fusesrv.Opcode, node, fh uint64) error {
	_, err := call(c, op, node, 0, fusesrv.ReleaseIn{FH: fh})
	return err
}

// Forget takes lookups back. There is no reply.
func Forget(c Caller, node, n uint64) error {
	_, err := call(c, fusesrv.OpForget, node, 0, fusesrv.ForgetIn{Nlookup: n})
	return err
}

// Setxattr sets an extended attribute.
func Setxattr(c Caller, node uint64, name string, value []byte, flags uint32) error {
	// The short form, as without SETXATTR_EXT.
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(len(value))), flags)
	_, err := call(c, fusesrv.OpSetxattr, node, 0, head, name, value)
	return err
}

// Getxattr reads an extended attribute of up to 64 KiB.
func Getxattr(c Caller, node uint64, name string) ([]byte, error) {
	const most = 64 << 10
	return call(c, fusesrv.OpGetxattr, node, most, fusesrv.GetxattrIn{Size: most}, name)
}

// Do sends a request about an open file that has no answer but done.
func Do(c Caller, op fusesrv.Opcode, node uint64, in any) error {
	_, err := call(c, op, node, 0, in)
	return err
}
