package testenv

import "testing"

func TestRequiredReadsTheList(t *testing.T) {
	for _, tt := range []struct {
		name, require string
		feature       Feature
		want          bool
	}{
		{"unset", "", FUSE, false},
		{"named", "fuse,qemu", QEMU, true},
		{"spaces", "fuse, qemu", QEMU, true},
		{"other", "fuse", QEMU, false},
		{"part_of_a_name", "guestkernel", "guest", false},
		{"all", "all", Loop, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("REQUIRE", tt.require)
			if got := Required(tt.feature); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRoundsIsATenthOutsideSoak(t *testing.T) {
	t.Setenv("VRAFS_SOAK", "")
	if got := [3]int{Rounds(10000), Rounds(10), Rounds(3)}; got != [3]int{1000, 1, 1} {
		t.Errorf("got %v", got)
	}
	t.Setenv("VRAFS_SOAK", "1")
	if got := Rounds(10000); got != 10000 {
		t.Errorf("soak: got %v", got)
	}
}

func TestEveryFeatureHasAnAnswer(t *testing.T) {
	for _, f := range Features() {
		why := Missing(f)
		t.Logf("%-12s %s", f, why)
	}
	if Missing("nonsense") == "" {
		t.Error("an unknown feature must be missing")
	}
}
