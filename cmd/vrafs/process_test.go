package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// exitOf is the exit status of a finished command.
func exitOf(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// smallImage builds an image of a directory with many names.
func smallImage(t *testing.T) string {
	t.Helper()
	src, dir := t.TempDir(), t.TempDir()
	for i := range 300 {
		must(t, os.WriteFile(filepath.Join(src, fmt.Sprint(strings.Repeat("name", 50), i)), nil, 0o644))
	}
	path := filepath.Join(dir, "image.boot")
	runQuietly(t, "", "create", "-l", "warn", "-B", path, "-D", dir, src)
	return path
}

func TestImageTruncatedUnderTheReaderEndsInAnError(t *testing.T) {
	testenv.Need(t, testenv.Root)
	path := smallImage(t)
	cmd := nydusImageCommand(t.Context(), "inspect", path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	r := bufio.NewReader(out)
	_, err = r.ReadString('>') // the prompt: the image is open
	must(t, err, os.Truncate(path, 0))
	_, err = io.WriteString(in, "ls\n")
	must(t, err, in.Close())
	listing, err := io.ReadAll(r)
	must(t, err)
	switch got := exitOf(cmd.Wait()); {
	case got == 1 && stderr.String() == "Error: the image was truncated while it was read\n":
	case got == 0 && bytes.Count(listing, []byte("\n")) > 300:
		t.Log("the image was copied to memory first, since it doesn't lie on a local file system")
	default:
		t.Errorf("exit %d: %s", got, stderr.String())
	}
}

// A halfBuild is nydus-image with the first half of a tar from a FIFO before it.
type halfBuild struct {
	*exec.Cmd
	stderr bytes.Buffer
	source *os.File // where the other half would come from
}

func startHalfBuild(t *testing.T, args ...string) *halfBuild {
	t.Helper()
	testenv.Need(t, testenv.Root)
	in := filepath.Join(t.TempDir(), "in.tar")
	must(t, unix.Mkfifo(in, 0o600))
	layer := layerTar(t, converterLayers[0]...)
	b := &halfBuild{Cmd: nydusImageCommand(t.Context(), append([]string{"create", "-t", "tar-rafs", "--blob-inline-meta", in}, args...)...)}
	b.Stderr = &b.stderr
	must(t, b.Start())
	var err error
	b.source, err = os.OpenFile(in, os.O_WRONLY, 0)
	must(t, err)
	t.Cleanup(func() { b.source.Close() })
	_, err = b.source.Write(layer[:len(layer)/2])
	must(t, err)
	return b
}

func TestSignalEndsABuildAndRemovesWhatItWrote(t *testing.T) {
	blob := filepath.Join(t.TempDir(), "blob")
	b := startHalfBuild(t, "--blob", blob)
	must(t, b.Process.Signal(unix.SIGTERM))
	// The writer goes away as well, as it does when a whole pipeline is stopped, and
	// may be noticed first.
	must(t, b.source.Close())
	got := exitOf(b.Wait())
	if said := b.stderr.String(); got != 1 || said != "Error: interrupted\n" && !strings.Contains(said, "unexpected EOF") {
		t.Errorf("exit %d: %s", got, said)
	}
	if _, err := os.Stat(blob); err == nil {
		t.Error("the blob is still there")
	}
}

func TestSignalEndsABuildWhoseSourceIsSilent(t *testing.T) {
	blobs := t.TempDir()
	b := startHalfBuild(t, "-D", blobs)
	must(t, b.Process.Signal(unix.SIGTERM))
	got := exitOf(b.Wait())
	if said := b.stderr.String(); got != 1 || said != "Error: interrupted\n" {
		t.Errorf("exit %d: %s", got, said)
	}
	if left, err := os.ReadDir(blobs); err != nil || len(left) > 0 {
		t.Errorf("%v is still there, %v", left, err)
	}
}

func TestSignalEndsACommandThatWaitsForAFIFO(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.tar"), filepath.Join(dir, "blob")
	must(t, unix.Mkfifo(in, 0o600), unix.Mkfifo(out, 0o600))
	cmd := nydusImageCommand(t.Context(), "create", "-t", "tar-rafs", "--blob-inline-meta", "--blob", out, in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	// This returns when the program has opened the source, and then nobody opens
	// the other end of the output.
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	must(t, cmd.Process.Signal(unix.SIGINT))
	if got := exitOf(cmd.Wait()); got != 1 || stderr.String() != "Error: interrupted\n" {
		t.Errorf("exit %d: %s", got, stderr.String())
	}
}
