package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// A sentence is one of nydusd.md section 2, as a request to running daemons.
type sentence struct {
	says   string // subsection, and what it says in a few words
	at     string // which daemons of the stage, one after the other
	method string
	target string // below /api; "/metrics" is itself
	body   string
	status int
	want   want // nil: no content
	// beside runs while the request does: a supervisor's part, or a reader's.
	beside func() error
}

// A want says what is wrong with the body of an answer.
type want func(body string) error

// exactly is a whole body.
func exactly(text string) want {
	return func(body string) error {
		if body != text {
			return fmt.Errorf("want %s", text)
		}
		return nil
	}
}

// refuses is an error answer with exactly this message.
func refuses(message string) want {
	text, _ := json.Marshal(message)
	return exactly(`{"code":"UNDEFINED","message":` + string(text) + `}`)
}

// refusal is an error answer whose message has these parts.
func refusal(parts ...string) want {
	return func(body string) error {
		var e map[string]string
		if err := json.Unmarshal([]byte(body), &e); err != nil || len(e) != 2 || e["code"] != "UNDEFINED" {
			return fmt.Errorf("no error answer: %w", err)
		}
		return has(parts...)(e["message"])
	}
}

// has is a body with these parts.
func has(parts ...string) want {
	return func(body string) error {
		for _, p := range parts {
			if !strings.Contains(body, p) {
				return fmt.Errorf("want %s", p)
			}
		}
		return nil
	}
}

// looks is a body that an expression describes as a whole.
func looks(expression string) want {
	re := regexp.MustCompile(`^(?:` + expression + `)$`)
	return func(body string) error {
		if !re.MatchString(body) {
			return fmt.Errorf("want %s", re)
		}
		return nil
	}
}

// object is a JSON object with these keys and no others.
func object(keys string) want {
	return func(body string) error {
		var m map[string]any
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			return err
		}
		got, want := slices.Sorted(maps.Keys(m)), strings.Fields(keys)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("keys %q, want %q", got, want)
		}
		return nil
	}
}

// all is several wants of one body.
func all(wants ...want) want {
	return func(body string) error {
		for _, w := range wants {
			if err := w(body); err != nil {
				return err
			}
		}
		return nil
	}
}

// A stage is the daemons that sentences are about.
type stage struct {
	t       *testing.T
	h       *host // of fuse and waiting
	other   *host // of alone
	im, v5  *imageFixture
	daemons map[string]*process
}

// Where a sentence holds.
const (
	running  = "fuse virtiofs singleton"  // every mode
	trees    = "fuse virtiofs"            // those with mounts
	noTree   = "singleton"                // the other
	everyone = running + " waiting upper" // those in INIT, too
)

// newStage starts a daemon of each kind:
//
//	fuse       with a supervisor, its mountpoint empty
//	waiting    its successor, in INIT
//	alone      without a supervisor, with an image of the command line
//	lonely     in INIT without a supervisor
//	abandoned  in INIT with a supervisor that isn't there
//	virtiofs, singleton
//	upper      virtiofs in INIT
//	beneath    the same without a supervisor
//	cacheless  singleton in INIT for a cache of the kernel's
func newStage(t *testing.T) *stage {
	h := newHost(t)
	s := &stage{t: t, h: h, im: smallImage(t), daemons: map[string]*process{},
		v5: makeImage(t, testimage.Options{Version: rafs.V5, Tree: testtree.Options{Seed: 2}})}
	sock, _ := sockets(t)
	s.daemons["fuse"] = h.fuse(t, h.api)
	s.daemons["fuse"].waitSocket()
	s.daemons["waiting"] = h.fuse(t, h.api+"2", "--upgrade")
	s.other = newHost(t)
	s.daemons["alone"] = s.other.kept(t, s.im.withConfig(t)...)
	run := func(name string, args ...string) {
		api := h.api + name
		s.daemons[name] = start(t, exec.Command(binary, append(args, "--apisock", api)...), "", api)
	}
	run("abandoned", "fuse", "--mountpoint", t.TempDir(), "--upgrade", "--id", "d3", "--supervisor", filepath.Join(t.TempDir(), "none"))
	run("lonely", "fuse", "--mountpoint", t.TempDir(), "--upgrade")
	run("virtiofs", "virtiofs", "--sock", sock)
	run("upper", "virtiofs", "--sock", sock+"2", "--upgrade", "--id", "d1", "--supervisor", h.sup.Path)
	run("beneath", "virtiofs", "--sock", sock+"3", "--upgrade")
	run("singleton", "singleton")
	run("cacheless", "singleton", "--upgrade", "--fscache", t.TempDir(), "--id", "d2", "--supervisor", h.sup.Path)
	for _, p := range s.daemons {
		p.waitSocket()
	}
	return s
}

// TestEverySentenceOfTheControlAPI asks real daemons over their sockets what nydusd.md
// section 2 speaks of, line by line.
func TestEverySentenceOfTheControlAPI(t *testing.T) {
	s := newStage(t)
	for _, list := range [][]sentence{
		s.conventions(), bodiless(), wrongMethods(), s.information(), s.events(), s.mounts(), s.mountErrors(), s.remounts(), s.superBlock(), s.shared(),
		s.metrics(), s.countersOff(), s.hotReload(), s.blobs(), s.blobErrors(), s.lifeCycle(),
	} {
		for _, row := range list {
			for name := range strings.FieldsSeq(row.at) {
				s.ask(name, row)
			}
		}
	}
	// 2.3: after exit the process ends, and a mount stays.
	for name, p := range s.daemons {
		if err := p.wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !s.h.mounted(t) || !s.other.mounted(t) {
		t.Error("exit took the mount away")
	}
}

// ask checks a sentence at one daemon.
func (s *stage) ask(name string, row sentence) {
	s.t.Run(row.says+"/"+name, func(t *testing.T) {
		p := s.daemons[name]
		if p == nil {
			t.Fatalf("no daemon %s", name)
		}
		target := "/api" + row.target
		if row.target == "/metrics" {
			target = row.target
		}
		beside := make(chan error, 1)
		go func() {
			if row.beside == nil {
				beside <- nil
				return
			}
			beside <- row.beside()
		}()
		req, err := http.NewRequestWithContext(t.Context(), row.method, "http://unix"+target, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json") // Kata has it on GET too
		resp, err := p.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err := <-beside; err != nil {
			t.Error(err)
		}
		if err != nil || resp.StatusCode != row.status {
			t.Fatalf("%s %s: %d %s, %v, want %d", row.method, target, resp.StatusCode, text, err, row.status)
		}
		if err := answered(resp, string(text), target == "/metrics" && row.status == 200, row.want); err != nil {
			t.Errorf("%s %s: %s: %v", row.method, target, text, err)
		}
	})
}

// answered checks what all answers have in common (2.1), then the body.
func answered(resp *http.Response, body string, prometheus bool, w want) error {
	kind, h := "application/json", resp.Header
	if prometheus {
		kind = "text/plain; version=0.0.4; charset=utf-8"
	}
	if h.Get("Server") != "Nydus API" || h.Get("Content-Type") != kind {
		return fmt.Errorf("headers %v", h)
	}
	if w == nil {
		w = exactly("")
	}
	// An answer without content has no length (RFC 9110, 8.6).
	if length := h.Get("Content-Length"); (resp.StatusCode == http.StatusNoContent) != (length == "") || length != "" && length != fmt.Sprint(len(body)) {
		return fmt.Errorf("%d bytes, Content-Length %q", len(body), length)
	}
	if resp.StatusCode >= 400 {
		w = all(refusal(), w)
	}
	return w(body)
}

// file makes a file of the test's.
func (s *stage) file(name, text string) string {
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}
