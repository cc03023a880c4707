package filelist

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []File
	}{
		{"nothing", "", []File{}},
		{"paths", "/a\n\n  /b c\r\n/d", []File{{Path: "/a"}, {Path: "/b c"}, {Path: "/d"}}},
		{"ranges", "/a\t0-4095,8192-8192\n/a\t4096-8191\n", []File{{"/a", []Range{{0, 4096}, {8192, 1}}}, {"/a", []Range{{4096, 4096}}}}},
		{"tabs that are none", "/a\tb\n/a\t1\n/a\t2-1\n/a\t-1-2\n/a\t1-2,\n", []File{{Path: "/a\tb"}, {Path: "/a\t1"}, {Path: "/a\t2-1"}, {Path: "/a\t-1-2"}, {Path: "/a\t1-2,"}}},
		{"JSON", ` {"version":"v1","files":[{"path":"/a"},{"path":"b","ranges":[[1,2],[3,4]]},{"path":"/c","ranges":[]}]}`,
			[]File{{Path: "/a"}, {"/b", []Range{{1, 2}, {3, 4}}}, {Path: "/c"}}},
		{"JSON without files", `{}`, []File{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse([]byte(tt.text))
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
	for name, text := range map[string]string{
		"a relative path": "/a\nb\n", "broken JSON": `{"files":`, "JSON of another shape": `{"files":[{"path":"/a","ranges":[1]}]}`,
		"an entry without a path": `{"files":[{}]}`,
	} {
		if got, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestWholeNamesEachFileOnce(t *testing.T) {
	got := Whole([]File{{"/a", []Range{{0, 1}}}, {Path: "/b"}, {"/a", []Range{{5, 1}}}})
	if diff := cmp.Diff([]File{{Path: "/a"}, {Path: "/b"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinesLeaveOutWhatWouldBeReadAsAnother(t *testing.T) {
	list := []File{{Path: "/a\nb"}, {Path: "/a "}, {Path: "/a\t1-2"}, {Path: "/a\tb"}, {"/a\tb", []Range{{1, 2}}}}
	if got := string(Lines(list)); got != "/a\tb\n/a\tb\t1-2\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzParse reads what is no list, and reads back what it wrote.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("error %v has no class", err)
			}
			return
		}
		encoded, err := JSON(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, again := range [][]byte{encoded, Lines(list)} {
			got, err := Parse(again)
			if err != nil || len(got) > len(list) || len(again) > 0 && again[0] == '{' && len(got) != len(list) {
				t.Fatalf("%d entries were read back of %d, %v", len(got), len(list), err)
			}
		}
	})
}
