package kata

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files and the fuzz seeds")

func encode(text string) string {
	return "extraoption=" + base64.StdEncoding.EncodeToString([]byte(text))
}

const (
	whole = `{"source":"/s/1/fs/image/image.boot","config":"{\"auth\":\"c2VjcmV0\"}","snapshotdir":"/s/2","fs_version":"v6"}`
	other = `{"source":"/other","config":"c","snapshotdir":"/o","fs_version":"v5"}`
)

// TestExtraOptionByBothRuntimesRules, which differ in more than half of the cases.
func TestExtraOptionByBothRuntimesRules(t *testing.T) {
	const fine = "" // no error
	noPad := strings.TrimRight(encode(`{"source":"a","config":"b","snapshotdir":"c","fs_version":"v6"} `), "=")
	for _, tt := range []struct {
		name     string
		options  []string
		inGo     string
		inRust   string
		wantGo   string // source
		wantRust string
	}{
		{"as the snapshotter writes it", []string{"lowerdir=/l", encode(whole), "upperdir=/u"}, fine, fine, "/s/1/fs/image/image.boot", "/s/1/fs/image/image.boot"},
		{"the last counts, or the first", []string{encode(whole), encode(other)}, fine, fine, "/other", "/s/1/fs/image/image.boot"},
		{"none", []string{"lowerdir=/l"}, "there is none", "there is none", "", ""},
		{"empty", []string{"extraoption="}, "there is none", "there is none", "", ""},
		{"no base64", []string{"extraoption=%%%"}, "illegal base64", "illegal base64", "", ""},
		{"line break", []string{encode(whole)[:40] + "\n" + encode(whole)[40:]}, fine, "line break", "/s/1/fs/image/image.boot", ""},
		{"no padding", []string{noPad}, "illegal base64", "illegal base64", "", ""},
		{"last bits set", []string{encode(`{"source":"a","config":"b","snapshotdir":"c","fs_version":"v6"} `)[:len(noPad)-1] + "B=="}, fine, "illegal base64", "a", ""},
		{"no JSON", []string{encode("secret")}, "malformed JSON at byte", "not a JSON object", "", ""},
		{"list", []string{encode("[]")}, "wrong type", "not a JSON object", "", ""},
		{"half", []string{encode(whole[:60])}, "malformed JSON", "malformed JSON", "", ""},
		{"text behind", []string{encode(whole + "x")}, "malformed JSON", "text behind", "", ""},
		{"without source", []string{encode(`{"config":"c","snapshotdir":"/o","fs_version":"v5"}`)}, "source is missing", "source is missing", "", ""},
		{"without config", []string{encode(`{"source":"c","snapshotdir":"/o","fs_version":"v5"}`)}, "config is missing", "config is missing", "", ""},
		{"without snapshotdir", []string{encode(`{"source":"c","config":"/o","fs_version":"v5"}`)}, "snapshotdir is missing", "snapshotdir is missing", "", ""},
		{"empty config", []string{encode(`{"source":"c","config":"","snapshotdir":"/o","fs_version":"v5"}`)}, "config is missing or empty", fine, "", "c"},
		{"without version", []string{encode(`{"source":"c","config":"d","snapshotdir":"/o"}`)}, fine, "fs_version is missing", "c", ""},
		{"unknown version", []string{encode(`{"source":"c","config":"d","snapshotdir":"/o","fs_version":"v7"}`)}, fine, "neither v5 nor v6", "c", ""},
		{"version as a number", []string{encode(`{"source":"c","config":"d","snapshotdir":"/o","fs_version":6}`)}, fine, "fs_version is no string", "c", ""},
		{"keys in other case", []string{encode(strings.Replace(whole, "source", "Source", 1))}, fine, "source is missing", "/s/1/fs/image/image.boot", ""},
		{"key twice", []string{encode(`{"source":"x",` + other[1:])}, fine, "twice", "/other", ""},
		{"null", []string{encode(strings.Replace(other, `"/o"`, "null", 1))}, "snapshotdir is missing", "snapshotdir is no string", "", ""},
		{"unknown members", []string{encode(`{"more":{"a":[1]},` + other[1:])}, fine, fine, "/other", "/other"},
		{"not UTF-8", []string{encode(strings.Replace(other, "/other", "/\xff", 1))}, fine, "not UTF-8", "/\uFFFD", ""},
		{"too long", []string{"extraoption=" + strings.Repeat("A", maxExtraOption+4)}, "at most", "at most", "", ""},
	} {
		for _, by := range []struct {
			runtime    Runtime
			bad, value string
		}{{Go, tt.inGo, tt.wantGo}, {Rust, tt.inRust, tt.wantRust}} {
			t.Run(tt.name+"/"+string(by.runtime), func(t *testing.T) {
				o, err := ParseExtraOption(tt.options, by.runtime)
				if by.bad == "" && (err != nil || o.Source != by.value) {
					t.Errorf("got %v, %v, want source %q", o, err, by.value)
				}
				if by.bad != "" && (!errors.Is(err, ErrExtraOption) || !strings.Contains(err.Error(), by.bad) || o != (ExtraOption{})) {
					t.Errorf("got %v, %v, want an error with %q", o, err, by.bad)
				}
			})
		}
	}
}

func TestExtraOptionShowsNoCredentials(t *testing.T) {
	o, err := ParseExtraOption([]string{encode(whole)}, Rust)
	if err != nil || o.Config == "" {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", &o), fmt.Sprintf("%s", []ExtraOption{o})} {
		if strings.Contains(text, "c2VjcmV0") {
			t.Error(text)
		}
	}
	for _, bad := range []string{`{"config":"c2VjcmV0","source":1}`, `{"config":"c2VjcmV0"`, `c2VjcmV0`, `{"c2VjcmV0":`} {
		for _, by := range []Runtime{Go, Rust} {
			if _, err := ParseExtraOption([]string{encode(bad)}, by); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("%s: %v", bad, err)
			}
		}
	}
}

func TestMountTypesOfBothRuntimes(t *testing.T) {
	for _, tt := range []struct {
		mountType    string
		inGo, inRust bool
	}{
		{"fuse.nydus-overlayfs", true, true},
		{"fuse./usr/local/bin/nydus-overlayfs", true, false},
		{"fuse.nydus-overlayfs-abc", true, false},
		{"fuse./nydus-overlayfs/x", false, false},
		{"nydus-overlayfs", false, false},
		{"fuse.", false, false},
		{"fuse", false, false},
		{"overlay", false, false},
		{"", false, false},
	} {
		if g, r := IsNydusMount(tt.mountType, Go), IsNydusMount(tt.mountType, Rust); g != tt.inGo || r != tt.inRust {
			t.Errorf("%q: Go %v, Rust %v", tt.mountType, g, r)
		}
	}
}

// FuzzExtraOption: what a runtime accepts has what it needs, and says the same
// again when it is written anew.
func FuzzExtraOption(f *testing.F) {
	seeds := []string{whole, other, whole[:60], "[]", `{"source":null}`, `{"Source":"a","config":"b","snapshotdir":"c"}`, "\xff", `{"source":"a","source":"b"}`}
	if *update {
		for i, s := range seeds {
			text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nbool(%v)\n", s, i%2 == 0)
			if err := os.WriteFile(filepath.Join("testdata", "fuzz", "FuzzExtraOption", fmt.Sprintf("seed-%d", i)), []byte(text), 0o644); err != nil {
				f.Fatal(err)
			}
		}
	}
	for _, s := range seeds {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, plain bool) {
		option := "extraoption=" + string(body)
		if plain {
			option = encode(string(body))
		}
		for _, by := range []Runtime{Go, Rust} {
			o, err := ParseExtraOption([]string{option}, by)
			if err != nil {
				if !errors.Is(err, ErrExtraOption) || o != (ExtraOption{}) {
					t.Errorf("%s: %v, %v", by, o, err)
				}
				continue
			}
			if by == Go && (o.Source == "" || o.Config == "" || o.SnapshotDir == "") || by == Rust && o.FSVersion != "v5" && o.FSVersion != "v6" {
				t.Errorf("%s accepts %v", by, o)
			}
			again, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := ParseExtraOption([]string{encode(string(again))}, by); err != nil || p != o {
				t.Errorf("%s: %v, then %v, %v", by, o, p, err)
			}
		}
	})
}
