package passthrough_test

import (
	"strconv"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"vrafs/fusesrv"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
)

func TestPosixSuite(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags fusesrv.InitFlags
		o     passthrough.Options
	}{
		{"plain", 0, passthrough.Options{}},
		{"writeback", fusesrv.WritebackCache, passthrough.Options{}},
		{"descriptors", 0, passthrough.Options{NoHandles: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.NoHandles {
				testenv.Long(t)
			}
			for name, run := range posixtest.All {
				switch name {
				case "FcntlFlockLocksFile": // a lock of fcntl and one of flock: local file systems keep them apart
				default: // XAttrLarge skips itself: ext4, which is below, can't hold so much
					t.Run(name, func(t *testing.T) { run(t, serve(t, t.TempDir(), tt.flags, tt.o).mount(t)) })
				}
			}
		})
	}
}

// TestRandomOperationsOnAFile has programs do to files of a mount what they do to those
// of a disk, several at once.
func TestRandomOperationsOnAFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags fusesrv.InitFlags
		o     passthrough.Options
	}{
		{"plain", 0, passthrough.Options{}},
		{"writeback", fusesrv.WritebackCache, passthrough.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := serve(t, t.TempDir(), tt.flags, tt.o).mount(t)
			runChild(t, "exercise", dir, strconv.Itoa(testenv.Rounds(30_000)))
		})
	}
}
