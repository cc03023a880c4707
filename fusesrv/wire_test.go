package fusesrv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestWireSizesAreThoseOfTheProtocol(t *testing.T) {
	tests := []struct {
		v    any
		want int
	}{
		{InHeader{}, 40}, {OutHeader{}, 16}, {InitIn{}, 64}, {InitOut{}, 64}, {Attr{}, 88}, {EntryOut{}, 128},
		{AttrOut{}, 104}, {GetattrIn{}, 16}, {SetattrIn{}, 88}, {ReadIn{}, 40}, {WriteIn{}, 40}, {WriteOut{}, 8},
		{OpenIn{}, 8}, {OpenOut{}, 16}, {CreateIn{}, 16}, {MknodIn{}, 16}, {MkdirIn{}, 8}, {RenameIn{}, 16},
		{LinkIn{}, 8}, {ReleaseIn{}, 24}, {FlushIn{}, 24}, {FsyncIn{}, 16}, {SetxattrIn{}, 16}, {GetxattrIn{}, 8},
		{LkIn{}, 48}, {LkOut{}, 24}, {AccessIn{}, 8}, {IoctlIn{}, 32}, {IoctlOut{}, 16}, {FallocateIn{}, 32},
		{LseekIn{}, 24}, {LseekOut{}, 8}, {CopyFileRangeIn{}, 56}, {SetupmappingIn{}, 40}, {RemovemappingOne{}, 16},
		{StatxIn{}, 24}, {Statx{}, 256}, {StatxOut{}, 288}, {StatfsOut{}, 80}, {Dirent{}, 24}, {ForgetIn{}, 8},
		{BatchForgetIn{}, 8}, {ForgetOne{}, 16},
	}
	for _, tt := range tests {
		if got := binary.Size(tt.v); got != tt.want {
			t.Errorf("%T: got %d bytes, want %d", tt.v, got, tt.want)
		}
	}
}

// A codec is a structure and the function that stores or reads it.
type codec struct {
	v  any // pointer
	fn func([]byte)
}

// pattern returns n bytes that all differ from their neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(7*i + 1)
	}
	return b
}

func TestEncodersStoreTheStructures(t *testing.T) {
	var (
		header OutHeader
		attr   Attr
		entry  EntryOut
		aOut   AttrOut
		open   OpenOut
		statfs StatfsOut
		init   InitOut
		statx  StatxOut
		lk     LkOut
		ioctl  IoctlOut
		dirent Dirent
	)
	for _, c := range []codec{
		{&header, header.encode}, {&attr, attr.encode}, {&entry, entry.encode}, {&aOut, aOut.encode}, {&open, open.encode},
		{&statfs, statfs.encode}, {&init, init.encode}, {&statx, statx.encode}, {&lk, lk.encode}, {&ioctl, ioctl.encode},
		{&dirent, dirent.encode},
	} {
		n := binary.Size(c.v)
		if _, err := binary.Decode(pattern(n), le, c.v); err != nil {
			t.Fatal(err)
		}
		want, err := binary.Append(nil, le, c.v)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if c.fn(got); !bytes.Equal(got, want) {
			t.Errorf("%T:\n got %x\nwant %x", c.v, got, want)
		}
	}
}

func TestDecodersReadTheStructures(t *testing.T) {
	var a arguments
	var header InHeader
	for _, c := range []codec{
		{&header, func(b []byte) { header.decode((*[InHeaderSize]byte)(b)) }},
		{&a.init, a.init.decode}, {&a.getattr, a.getattr.decode}, {&a.setattr, a.setattr.decode}, {&a.mknod, a.mknod.decode},
		{&a.mkdir, a.mkdir.decode}, {&a.open, a.open.decode}, {&a.create, a.create.decode}, {&a.read, a.read.decode},
		{&a.write, a.write.decode}, {&a.release, a.release.decode}, {&a.fsync, a.fsync.decode}, {&a.lk, a.lk.decode},
		{&a.ioctl, a.ioctl.decode}, {&a.falloc, a.falloc.decode}, {&a.lseek, a.lseek.decode}, {&a.copy, a.copy.decode},
		{&a.setup, a.setup.decode}, {&a.statx, a.statx.decode},
	} {
		b := pattern(binary.Size(c.v))
		if _, err := binary.Decode(b, le, c.v); err != nil {
			t.Fatal(err)
		}
		want, err := binary.Append(nil, le, c.v)
		if err != nil {
			t.Fatal(err)
		}
		c.fn(b)
		got, err := binary.Append(nil, le, c.v)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T:\n got %x, %v\nwant %x", c.v, got, err, want)
		}
	}
}

// TestStructuresAreThoseOfGoFuse compares the fields of equal names.
func TestStructuresAreThoseOfGoFuse(t *testing.T) {
	for _, tt := range []struct{ ours, theirs any }{
		{&Attr{}, &fuse.Attr{}}, {&EntryOut{}, &fuse.EntryOut{}}, {&AttrOut{}, &fuse.AttrOut{}}, {&OpenOut{}, &fuse.OpenOut{}},
		{&OutHeader{}, &fuse.OutHeader{}}, {&InHeader{}, &fuse.InHeader{}},
	} {
		size := binary.Size(tt.ours)
		if got := binary.Size(tt.theirs); got != size {
			t.Errorf("%T has %d bytes, %T %d", tt.ours, size, tt.theirs, got)
			continue
		}
		for _, v := range []any{tt.ours, tt.theirs} {
			if _, err := binary.Decode(pattern(size), le, v); err != nil {
				t.Fatal(err)
			}
		}
		theirs := map[string]string{}
		flatten(theirs, reflect.ValueOf(tt.theirs).Elem())
		ours := map[string]string{}
		flatten(ours, reflect.ValueOf(tt.ours).Elem())
		same := 0
		for name, v := range ours {
			if w, ok := theirs[name]; ok {
				same++
				if v != w {
					t.Errorf("%T.%s: got %s, go-fuse has %s", tt.ours, name, v, w)
				}
			}
		}
		if same == 0 {
			t.Errorf("%T: no field of go-fuse's names", tt.ours)
		}
	}
}

// flatten stores the numbers in v by their lower-case names.
func flatten(to map[string]string, v reflect.Value) {
	for i := range v.NumField() {
		f, name := v.Field(i), strings.ToLower(v.Type().Field(i).Name)
		switch {
		case f.Kind() == reflect.Struct:
			flatten(to, f)
		case f.CanInt():
			to[name] = fmt.Sprint(f.Int())
		case f.CanUint():
			to[name] = fmt.Sprint(f.Uint())
		}
	}
}

func TestOpcodesAndFlagsPrintTheirNames(t *testing.T) {
	for o, want := range map[Opcode]string{OpLookup: "LOOKUP", OpCopyFileRange64: "COPY_FILE_RANGE_64", 7: "opcode 7", 900: "opcode 900"} {
		if got := o.String(); got != want {
			t.Errorf("%d: got %q, want %q", uint32(o), got, want)
		}
	}
	for _, tt := range []struct {
		f    fmt.Stringer
		want string
	}{
		{AsyncRead | RequestTimeout, "ASYNC_READ|REQUEST_TIMEOUT"}, {InitFlags(1 << 60), "0x1000000000000000"},
		{InitFlags(0), "0x0"}, {OpenKeepCache | OpenPassthrough, "KEEP_CACHE|PASSTHROUGH"},
	} {
		if got := tt.f.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
