package vm

import (
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestDebianRunsFromTheImage compares a whole Debian and runs its own programs,
// dynamic linker included, in a root of overlayfs over the image.
func TestDebianRunsFromTheImage(t *testing.T) {
	needVM(t)
	root := testtree.DebianRoot(t)
	for i, series := range Series {
		t.Run(series, func(t *testing.T) {
			s := makeImage(t, variants[(i+1)%2], root).serve(t)
			m := bootWith(t, series, Options{MemMB: 1024}, s)
			s.mount(t, m)
			merged := s.mountOverlay(t, m)
			for _, tt := range []struct{ program, want string }{
				{"busybox echo $((6 * 7))", "42"},
				{"python3 -c 'import os, re, zlib; print(zlib.crc32(b\"vrafs\"), \"usr\" in os.listdir(\"/\"))'", fmt.Sprintf("%d True", crc32.ChecksumIEEE([]byte("vrafs")))},
				{"dpkg-query -W -f '${Status}' python3-minimal", "install ok installed"},
				{"busybox find / -xdev -type f | busybox wc -l >/tmp/count && busybox test -s /tmp/count && echo written", "written"},
			} {
				r := call[guestapi.RunResult](t, m, guestapi.Run, guestapi.RunArgs{
					Root: merged, Argv: []string{"/bin/sh", "-c", tt.program}, Env: []string{"PATH=/usr/bin:/bin", "HOME=/"},
				})
				t.Logf("%s: %v", tt.program, r.Took.Round(time.Millisecond))
				if r.Code != 0 || strings.TrimSpace(r.Output) != tt.want {
					t.Errorf("%s: exit code %d, output %q, want %q", tt.program, r.Code, r.Output, tt.want)
				}
			}
			s.compare(t, m)
			if testenv.Soak() {
				do(t, m, guestapi.DropCache, nil)
				s.compare(t, m)
			}
		})
	}
}
