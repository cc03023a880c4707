package fusesrv

import (
	"encoding/binary"
	"testing"
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
