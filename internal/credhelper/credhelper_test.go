package credhelper

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A plugin is a program behind a socket, started for each connection as systemd does with
// Accept=yes: its input and output are the connection.
type plugin struct {
	socket string
	dir    string
}

// start runs a shell script so until the test ends. It finds its image in $image.
func start(t *testing.T, script string) *plugin {
	t.Helper()
	p := &plugin{dir: t.TempDir()}
	p.socket = filepath.Join(p.dir, "s")
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	script = `request=$(cat); image=$(printf %s "$request" | sed 's/.*"image":"\([^"]*\)".*/\1/')
case "$request" in *'"apiVersion":"credentialprovider.kubelet.k8s.io/v1"'*'"kind":"CredentialProviderRequest"'*) ;; *) exit 1;; esac
printf '%s ' "$image" >> ` + p.dir + "/asked\n" + script
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.UnixConn).File()
			_ = conn.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Run()
			_ = f.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return p
}

// asked are the images that the plugin was asked for.
func (p *plugin) asked() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "asked"))
	return strings.TrimSpace(string(text))
}

// say is a script that answers.
func say(kind, duration, auth string) string {
	return fmt.Sprintf(`echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"%s",%s"auth":{%s}}'`,
		kind, duration, auth)
}

func auth(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestPluginsOfKubeletServeAsTheyAre(t *testing.T) {
	p := start(t, say("Registry", `"cacheDuration":"6h0m0s",`, `"*.example:5000":{"username":"AWS","password":"hunter2"}`))
	h := New(p.socket)
	at := time.Unix(1000, 0)
	h.now = func() time.Time { return at }
	want := Credentials{auth("AWS:hunter2"), at.Add(6 * time.Hour)}
	for _, image := range []string{"r.example:5000/a", "r.example:5000/b"} {
		if c, err := h.Get(t.Context(), image, ""); err != nil || c != want {
			t.Errorf("%s: got %v, %v", image, c, err)
		}
	}
	if got := p.asked(); got != "r.example:5000/a" {
		t.Errorf("asked for %q, want one answer for the whole registry", got)
	}
	if _, err := h.Get(t.Context(), "r.example:5000/a", want.Auth); !errors.Is(err, errSame) {
		t.Errorf("refused at once: %v", err)
	}
	at = at.Add(minLife)
	if c, err := h.Get(t.Context(), "r.example:5000/a", want.Auth); err != nil || c.End != at.Add(6*time.Hour) {
		t.Errorf("refused later: %v, %v", c, err)
	}
	at = at.Add(6 * time.Hour)
	if _, err := h.Get(t.Context(), "r.example:5000/b", ""); err != nil {
		t.Error(err)
	}
	if got := len(strings.Fields(p.asked())); got != 3 {
		t.Errorf("asked %d times, want once more after a refusal and after the end", got)
	}
}

func TestManyReadersAskOnce(t *testing.T) {
	p := start(t, say("Image", "", `"r":{"username":"u","password":"p"}`))
	h := New(p.socket)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := h.Get(t.Context(), "r/image", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p.asked() != "r/image" {
		t.Errorf("asked for %q", p.asked())
	}
}

func TestAnswersThatAreNoneAreErrorsWithoutSecrets(t *testing.T) {
	for name, script := range map[string]string{
		"nothing":       `exit 1`,
		"no JSON":       `echo hunter2`,
		"another kind":  `echo '{"kind":"Pod","apiVersion":"v1","auth":{"r":{"password":"hunter2"}}}'`,
		"another image": say("Image", "", `"other":{"username":"u","password":"hunter2"}`),
		"a bad time":    say("Image", `"cacheDuration":"hunter2",`, ``),
		"a bad key":     say("hunter2", "", ``),
		"not printable": say("Image", "", `"r":{"username":"u","password":"hunter2\n"}`),
		"too much":      `head -c 100000 /dev/zero`,
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, script)
			_, err := New(p.socket).Get(t.Context(), "r/image", "")
			if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), p.socket) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := New("/missing").Get(t.Context(), "r/image", ""); err == nil {
		t.Error("nobody listens, and there is an answer")
	}
}

func TestAHelperThatHangsIsLeft(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket) // the kernel connects, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := New(socket)
	gone := errors.New("reader went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := h.Get(ctx, "r/image", "")
		ended <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	second, cancelSecond := context.WithCancelCause(t.Context())
	cancelSecond(gone)
	if _, err := h.Get(second, "r/image", ""); !errors.Is(err, gone) {
		t.Errorf("who waits for another's question: %v", err)
	}
	cancel(gone)
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("who asked: %v", err)
	}
}

func TestPatternsAreThoseOfKubelet(t *testing.T) {
	for _, tt := range []struct {
		pattern, image string
		want           bool
	}{
		{"r.io", "r.io/a", true},
		{"r.io", "r.io:5000/a", false},
		{"r.io:5000", "r.io:5000/a", true},
		{"r.io/team", "r.io/team/a", true},
		{"r.io/team", "r.io/other", false},
		{"*.io", "r.io/a", true},
		{"*.io", "a.r.io/a", false},
		{"*.*.io", "a.r.io/a", true},
		{"*.dkr.ecr.*.amazonaws.com", "1234.dkr.ecr.eu-west-1.amazonaws.com/a", true},
		{"r*y.io", "registry.io/a", true},
		{"r*g*y.io", "registry.io/a", true},
		{"r*x*y.io", "registry.io/a", false},
		{"https://r.io", "r.io/a", true},
		{"", "r.io/a", false},
	} {
		if got := fits(tt.pattern, tt.image); got != tt.want {
			t.Errorf("%q of %q: %v", tt.pattern, tt.image, got)
		}
	}
	a := &answer{auth: map[string]login{"r.io": {"general", ""}, "r.io/team": {"team", ""}, "*.io": {"any", ""}}}
	if c, _ := a.find("r.io/team/x"); c.Auth != auth("team:") {
		t.Errorf("got %q, want the longest", c.Auth)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","cacheDuration":"1h","auth":{"*.r.io:5000/a":{"username":"u","password":"p"}}}`), "a.r.io:5000/a/b")
	f.Add([]byte(`{}`), "")
	f.Fuzz(func(t *testing.T, text []byte, image string) {
		kind, life, auth, err := parse(text)
		if err != nil {
			return
		}
		if kind == "" || life < minLife || life > maxLife {
			t.Errorf("kind %q, life %v", kind, life)
		}
		(&answer{auth: auth}).find(image)
	})
}
