package main

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
	"vrafs/oci/ocitest"
)

// vrafsCommand is this very program, as a child.
func vrafsCommand(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args = append([]string{"vrafs"}, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// peakFile, in the environment, is where the program writes the most memory that it had
// resident: what the kernel tells its parent is the parent's own where that has more.
const peakFile = "VRAFS_TEST_PEAK"

func writePeak(path string) {
	raw, err := os.ReadFile("/proc/self/status")
	if err == nil {
		i := bytes.Index(raw, []byte("VmHWM:"))
		err = os.WriteFile(path, raw[max(i, 0):], 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// digestOf runs a command that prints the reference of its result, and gives the digest.
func digestOf(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := vrafsCommand(t, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	_, d, ok := strings.Cut(strings.TrimSpace(string(out)), "@")
	if err != nil || !ok {
		t.Fatalf("%v: %v, printed %q\n%s", args, err, out, &stderr)
	}
	return d
}

// words is n bytes that compress to about half.
func words(seed uint64, n int) []byte {
	raw := make([]byte, n/2)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(raw)
	return hex.AppendEncode(make([]byte, 0, n), raw)
}

// severalLayers is a layout with an image of three layers, one of which takes two requests
// to upload when it was converted.
func severalLayers(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	var layers []ocitest.Layer
	for i, size := range []int{20 << 20, 1 << 20, 1 << 10} {
		tar := ocitest.Tar(t, ocitest.File(fmt.Sprintf("file%d", i), string(words(uint64(i), size))), ocitest.File("same", "same"))
		layers = append(layers, ocitest.NewLayer(t, tar, ocitest.Plain))
	}
	ocitest.Layout(t, dir, "1", layers...)
	return "oci:" + dir + ":1"
}

// tagged is the digest that a tag of a registry stands for, "" if there is none.
func tagged(t *testing.T, host, repo, tag string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/"+repo+"/manifests/"+tag, nil)
	must(t, err)
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	switch resp.StatusCode {
	case http.StatusOK:
		return digest.FromBytes(body).String()
	case http.StatusNotFound:
		return ""
	}
	t.Fatalf("%s: %s: %s", tag, resp.Status, body)
	return ""
}

// TestKilledWorkGoesOnAndShowsNothingHalf: conversions and pushes are killed when the
// registry gets any of their requests, again and again until one comes through. The name
// stands for nothing before, and then for the same as without a kill.
func TestKilledWorkGoesOnAndShowsNothingHalf(t *testing.T) {
	testenv.Long(t)
	src := severalLayers(t)
	s := testregistry.Start(t, testregistry.Options{})
	var victim atomic.Pointer[os.Process]
	var countdown atomic.Int64
	host := testregistry.Proxy(t, s.URL, func(http.ResponseWriter, *http.Request) bool {
		if countdown.Add(-1) == 0 {
			_ = victim.Load().Kill()
		}
		return false
	})
	r := rand.New(rand.NewPCG(1, 2))
	for _, work := range []string{"convert", "push"} {
		args := func(repo, records string) []string {
			a := []string{work, "-q", src, host + "/" + repo + ":1"}
			if work == "convert" {
				a = append(a, "--cache-dir", records)
			}
			return a
		}
		countdown.Store(1 << 40)
		want := digestOf(t, args(work+"/whole", t.TempDir())...)
		requests := 1<<40 - countdown.Load()
		kills := 0
		for round := range testenv.Rounds(20) {
			repo, records := fmt.Sprintf("%s/%d", work, round), t.TempDir()
			for {
				cmd := vrafsCommand(t, args(repo, records)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				countdown.Store(1 << 40)
				must(t, cmd.Start())
				victim.Store(cmd.Process)
				countdown.Store(1 + r.Int64N(requests+2))
				err := cmd.Wait()
				got := tagged(t, s.Host, repo, "1")
				if got != "" && got != want {
					t.Fatalf("%s: the name stands for %s after a kill, want nothing or %s", repo, got, want)
				}
				if err == nil {
					if got != want {
						t.Errorf("%s: the name stands for %q, want %s", repo, got, want)
					}
					break
				}
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("%s: %v\n%s", repo, err, &stderr)
				}
				kills++
			}
		}
		t.Logf("%s: %d kills, %d requests if nobody is killed", work, kills, requests)
		if kills == 0 {
			t.Errorf("%s: nothing was killed", work)
		}
	}
}

// TestKilledConversionsToALayoutLeaveItWhole for others, and go on.
func TestKilledConversionsToALayoutLeaveItWhole(t *testing.T) {
	testenv.Long(t)
	s := testregistry.Start(t, testregistry.Options{})
	src := severalLayers(t)
	must(t, vrafsCommand(t, "push", "-q", src, s.Host+"/x/src:1").Run())
	var victim atomic.Pointer[os.Process]
	var countdown atomic.Int64
	host := testregistry.Proxy(t, s.URL, func(http.ResponseWriter, *http.Request) bool {
		if countdown.Add(-1) == 0 {
			_ = victim.Load().Kill()
		}
		return false
	})
	args := func(dir, records string) []string {
		return []string{"convert", "-q", host + "/x/src:1", "oci:" + dir + ":1", "--cache-dir", records}
	}
	countdown.Store(1 << 40)
	want := digestOf(t, args(t.TempDir()+"/l", t.TempDir())...)
	requests := 1<<40 - countdown.Load()
	for n := int64(1); n <= requests; n++ {
		dir, records := t.TempDir()+"/l", t.TempDir()
		cmd := vrafsCommand(t, args(dir, records)...)
		countdown.Store(1 << 40)
		must(t, cmd.Start())
		victim.Store(cmd.Process)
		countdown.Store(n)
		_ = cmd.Wait()
		if raw, err := os.ReadFile(filepath.Join(dir, "index.json")); err == nil && bytes.Contains(raw, []byte("sha256:")) && !bytes.Contains(raw, []byte(want)) {
			t.Errorf("killed at request %d: index %s", n, raw)
		}
		if got := digestOf(t, args(dir, records)...); got != want {
			t.Errorf("killed at request %d, went on to %s, want %s", n, got, want)
		}
		left, err := filepath.Glob(filepath.Join(dir, ".vrafs-*"))
		must(t, err)
		if len(left) > 0 {
			t.Errorf("killed at request %d: %q are left", n, left)
		}
	}
}

// TestConversionTakesNoMoreMemoryForMoreData. The whole process counts.
func TestConversionTakesNoMoreMemoryForMoreData(t *testing.T) {
	testenv.Long(t)
	const limit = 256 << 20
	files := 2
	if testenv.Soak() {
		files = 64
	}
	dir := filepath.Join(t.TempDir(), "layout")
	var layers []ocitest.Layer
	for i := range 2 {
		layers = append(layers, ocitest.WriteLayer(t, dir, func(w *tar.Writer) {
			for f := range files {
				must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%d-%d", i, f), Mode: 0o644, Size: 64 << 20}))
				for part := range 64 {
					_, err := w.Write(words(uint64(1000*i+100*f+part), 1<<20))
					must(t, err)
				}
			}
		}))
	}
	ocitest.Layout(t, dir, "1", layers...)
	s := testregistry.Start(t, testregistry.Options{})
	for _, args := range [][]string{
		{"convert", "-q", "--no-cache", "oci:" + dir + ":1", s.Host + "/x/y:1"},
		{"convert", "-q", "--to", "oci", s.Host + "/x/y:1", "oci:" + t.TempDir() + "/back:1"},
		{"copy", "-q", s.Host + "/x/y:1", s.Host + "/x/z:1"},
	} {
		cmd, peak := vrafsCommand(t, args...), filepath.Join(t.TempDir(), "peak")
		cmd.Env = append(cmd.Env, peakFile+"="+peak)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		raw, err := os.ReadFile(peak)
		must(t, err)
		var n int
		_, err = fmt.Sscanf(string(raw), "VmHWM: %d kB", &n)
		must(t, err)
		t.Logf("%s of %d MiB: %d MiB of memory", args[0], 2*files*64, n>>10)
		if n<<10 > limit {
			t.Errorf("%v took %d bytes of memory, the limit is %d", args, n<<10, limit)
		}
	}
}

// TestEventsAreJSON, one object per line, the last of which is the result.
func TestEventsAreJSON(t *testing.T) {
	dir := t.TempDir()
	ocitest.Layout(t, dir+"/l", "1", ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("a", "a")), ocitest.Gzip))
	for _, args := range [][]string{
		{"convert", "--json", "--no-cache", "oci:" + dir + "/l:1", "oci:" + dir + "/nydus:1"},
		{"convert", "--json", "--to", "oci", "oci:" + dir + "/nydus:1", "oci:" + dir + "/back:1"},
		{"copy", "--json", "oci:" + dir + "/l:1", "oci-archive:" + dir + "/a.tar:1"},
	} {
		out, err := vrafsCommand(t, args...).Output()
		must(t, err)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if !strings.Contains(string(out), `"what":"image"`) {
			t.Errorf("%v: no event of the image in %s", args, out)
		}
		for i, line := range lines {
			var o struct{ Event, Digest, Name, State string }
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Errorf("%v: %v: %s", args, err, line)
			}
			if last := i == len(lines)-1; last != (o.Event == "result") || last != (o.Digest != "") || !last && o.State == "" {
				t.Errorf("%v: line %d is %s", args, i+1, line)
			}
		}
	}
}
