package fusesrv_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"syscall"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/tlv"
)

// newTree returns a server of a tree with nothing mounted.
func newTree(t testing.TB, o mountfs.Options, so fusesrv.Options) (*fusesrv.Server, *fusesrvtest.Direct) {
	t.Helper()
	tree := mountfs.New(o)
	s := fusesrv.NewServer(tree, so)
	tree.Serve(s.Quiesce)
	return s, fusesrvtest.NewDirect(t, s)
}

// Flags as kernels have offered them to virtio-fs.
const (
	linux54  = fusesrv.InitFlags(0x3fffffb)
	linux510 = fusesrv.InitFlags(0xbfffffb)
	linux61  = fusesrv.InitFlags(0x7ffffffb) | fusesrv.SecurityCtx
	newest   = ^fusesrv.InitReserved
)

func TestInitAgreesWithGuestsOfEveryAge(t *testing.T) {
	never := fusesrv.PosixLocks | fusesrv.FlockLocks | fusesrv.SpliceRead | fusesrv.SpliceWrite | fusesrv.SpliceMove |
		fusesrv.WritebackCache | fusesrv.HasInodeDAX | fusesrv.MapAlignment | fusesrv.Passthrough | fusesrv.HasResend |
		fusesrv.OverIOUring | fusesrv.RequestTimeout | fusesrv.InitReserved | fusesrv.NoExportSupport | fusesrv.AbortError
	for minor := uint32(27); minor <= 46; minor++ {
		for _, offer := range []fusesrv.InitFlags{0, linux54, linux510, linux61, newest, fusesrv.AllowIDMap, fusesrv.AllowIDMap | fusesrv.InitExt} {
			for _, images := range []bool{false, true} {
				t.Run(fmt.Sprintf("7.%d/%#x/images=%v", minor, uint64(offer), images), func(t *testing.T) {
					s, d := newTree(t, mountfs.Options{ImagesOnly: images, NoOpen: images}, fusesrv.Options{})
					out, err := fusesrvtest.Init(d, minor, offer)
					if err != nil {
						t.Fatal(err)
					}
					seen := offer
					if minor < 36 || offer&fusesrv.InitExt == 0 {
						seen &= 1<<32 - 1 // nothing beyond was said
					}
					got := fusesrv.InitFlags(out.Flags) | fusesrv.InitFlags(out.Flags2)<<32
					want := fusesrv.DefaultFlags
					if !images {
						want = want&^fusesrv.ExplicitInvalData | fusesrv.AutoInvalData | fusesrv.BigWrites
					}
					if want &= seen; want>>32 != 0 {
						want |= fusesrv.InitExt
					}
					if got != want || got&^offer != 0 || got&never != 0 {
						t.Errorf("got flags %v, want %v of the offered %v", got, want, offer)
					}
					if out.Major != 7 || out.Minor != 45 || out.MaxWrite != 1<<20 || out.TimeGran != 1 ||
						out.MaxReadahead != 128<<10 || out.MaxBackground < 256 || out.CongestionThreshold > out.MaxBackground {
						t.Errorf("got %+v", out)
					}
					if (out.MaxPages != 0) != (got&fusesrv.MaxPages != 0) {
						t.Errorf("got max_pages %d with flags %v", out.MaxPages, got)
					}
					_, err = fusesrvtest.Open(d, fusesrv.OpOpendir, fusesrv.RootID, 0)
					noOpen := images && offer&fusesrv.NoOpendirSupport != 0
					if errors.Is(err, syscall.ENOSYS) != noOpen || err != nil && !noOpen {
						t.Errorf("OPENDIR: got %v, want no message: %v", err, noOpen)
					}
					if got := s.Settings(); got.Minor != minor {
						t.Errorf("got minor %d in the settings, want %d", got.Minor, minor)
					}
				})
			}
		}
	}
}

func TestInitRefusesOldGuestsAndWaitsForLaterOnes(t *testing.T) {
	tests := []struct {
		name         string
		major, minor uint32
		body         int
		err          error
	}{
		{"major 6", 6, 45, 0, syscall.EPROTO},
		{"minor 26", 7, 26, 0, syscall.EPROTO},
		{"minor 27", 7, 27, 64, nil},
		{"major 8", 8, 0, 8, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, d := newTree(t, mountfs.Options{}, fusesrv.Options{})
			b, err := d.Call(fusesrv.OpInit, 0, fusesrvtest.Args(t, fusesrv.InitIn{Major: tt.major, Minor: tt.minor}), 64)
			if !errors.Is(err, tt.err) || len(b) != tt.body {
				t.Errorf("got %d bytes, error %v, want %d, %v", len(b), err, tt.body, tt.err)
			}
			if began := s.Settings().Major != 0; began != (tt.body == 64) {
				t.Errorf("session has begun: %v", began)
			}
		})
	}
}

func TestNothingIsServedOutsideASession(t *testing.T) {
	s, d := newTree(t, mountfs.Options{}, fusesrv.Options{})
	if _, err := fusesrvtest.Getattr(d, fusesrv.RootID); err != syscall.EIO {
		t.Errorf("before INIT: got %v, want EIO", err)
	}
	if _, err := fusesrvtest.Init(d, 45, newest); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Getattr(d, fusesrv.RootID); err != nil {
		t.Error(err)
	}
	saved := s.Settings().Save()
	if _, err := d.Call(fusesrv.OpDestroy, 0, nil, 0); err != nil {
		t.Error(err)
	}
	if _, err := fusesrvtest.Getattr(d, fusesrv.RootID); err != syscall.EIO {
		t.Errorf("after DESTROY: got %v, want EIO", err)
	}
	settings, err := fusesrv.ParseSettings(saved)
	if err != nil {
		t.Fatal(err)
	}
	s.Restore(settings)
	if _, err := fusesrvtest.Getattr(d, fusesrv.RootID); err != nil {
		t.Errorf("after Restore: %v", err)
	}
}

func TestSwappedInitEndsTheSessionWithoutReply(t *testing.T) {
	s, d := newTree(t, mountfs.Options{}, fusesrv.Options{})
	if _, err := fusesrvtest.Init(d, 45, newest); err != nil {
		t.Fatal(err)
	}
	n, err := d.Send(fusesrvtest.Args(t, fusesrv.InHeader{Len: 104, Opcode: 0x1a000000}, fusesrv.InitIn{}), 80)
	if n != 0 || err != nil || s.Settings().Major != 0 {
		t.Errorf("got a reply of %d bytes, error %v, settings %+v, want none", n, err, s.Settings())
	}
}

// TestMaxWriteIsWhatWasAgreed by a predecessor, if that is more than ours.
func TestMaxWriteIsWhatWasAgreed(t *testing.T) {
	s := fusesrv.NewServer(nil, fusesrv.Options{MaxWrite: 4096})
	if got := s.MaxWrite(); got != 4096 {
		t.Errorf("before INIT: %d", got)
	}
	s.Restore(fusesrv.Settings{MaxWrite: 1 << 20})
	if got := s.MaxWrite(); got != 1<<20 {
		t.Errorf("after a takeover: %d", got)
	}
}

// TestSavedMaxWriteIsBounded since memory is allocated by it, for each request.
func TestSavedMaxWriteIsBounded(t *testing.T) {
	for size, ok := range map[uint32]bool{4096: true, 1 << 20: true, 1<<20 + 1: false, 1<<32 - 1: false} {
		saved := (&fusesrv.Settings{Major: fusesrv.Major, Minor: fusesrv.Minor, MaxWrite: size}).Save()
		if got, err := fusesrv.ParseSettings(saved); (err == nil) != ok || err != nil && !errors.Is(err, fusesrv.ErrState) {
			t.Errorf("%d bytes: %+v, %v", size, got, err)
		}
	}
}

// TestSavedNumberThatDoesNotFitIsRefused rather than cut to another one.
func TestSavedNumberThatDoesNotFitIsRefused(t *testing.T) {
	e := tlv.Start("vrafsfus", 1, 1)
	for tag, v := range map[tlv.Tag]uint64{1: 7, 2: 45, 3: 0, 5: 1<<32 | 4096, 11: 0, 12: 0} {
		e.Uint(tag|tlv.Required, v)
	}
	if got, err := fusesrv.ParseSettings(e.Finish()); !errors.Is(err, fusesrv.ErrState) {
		t.Errorf("%+v, %v", got, err)
	}
}

// goldenSettings is what version 1 writes with every setting set. Every later version
// reads it as the same settings.
const goldenSettings = "" +
	"7672616673667573" + "0100" + "0100" + // magic, version, least reader
	"0180" + "08000000" + "0700000000000000" + // major
	"0280" + "08000000" + "2d00000000000000" + // minor
	"0380" + "08000000" + "11e0c40200010000" + // flags
	"0400" + "08000000" + "0000020000000000" + // read-ahead
	"0580" + "08000000" + "0010000000000000" + // largest write
	"0600" + "08000000" + "0001000000000000" + // pages
	"0700" + "08000000" + "4000000000000000" + // background
	"0800" + "08000000" + "3000000000000000" + // congestion
	"0900" + "08000000" + "0c00000000000000" + // alignment of mappings
	"0a00" + "08000000" + "0100000000000000" + // stack depth
	"0b80" + "08000000" + "0100000000000000" + // no open
	"0c80" + "08000000" + "0100000000000000" // no opendir

// TestSettingsKeepTheirForm across releases: a daemon is taken over by others.
func TestSettingsKeepTheirForm(t *testing.T) {
	every := fusesrv.Settings{Major: 7, Minor: 45, Flags: 0x10002c4e011, MaxReadahead: 1 << 17, MaxWrite: 4096, MaxPages: 256,
		MaxBackground: 64, Congestion: 48, MapAlignment: 12, MaxStackDepth: 1, NoOpen: true, NoOpendir: true}
	for i, v := 0, reflect.ValueOf(every); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not part of the golden settings", v.Type().Field(i).Name)
		}
	}
	if got := hex.EncodeToString(every.Save()); got != goldenSettings {
		t.Errorf("got  %s\nwant %s", got, goldenSettings)
	}
	text, err := hex.DecodeString(goldenSettings)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fusesrv.ParseSettings(text); err != nil || got != every {
		t.Errorf("got %+v, %v", got, err)
	}
}
