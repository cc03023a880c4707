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

func TestSignalEndsABuildAndRemovesWhatItWrote(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	in, blob := filepath.Join(dir, "in.tar"), filepath.Join(dir, "blob")
	must(t, unix.Mkfifo(in, 0o600))
	layer := layerTar(t, converterLayers[0]...)
	cmd := nydusImageCommand(t.Context(), "create", "-t", "tar-rafs", "--blob-inline-meta", "--blob", blob, in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	must(t, err)
	_, err = w.Write(layer[:len(layer)/2])
	must(t, err, cmd.Process.Signal(unix.SIGTERM))
	// The writer goes away as well, as it does when a whole pipeline is stopped, and
	// may be noticed first.
	must(t, w.Close())
	noticed := stderr.String
	if got := exitOf(cmd.Wait()); got != 1 || noticed() != "Error: interrupted\n" && !strings.Contains(noticed(), "unexpected EOF") {
		t.Errorf("exit %d: %s", got, stderr.String())
	}
	if _, err := os.Stat(blob); err == nil {
		t.Error("the blob is still there")
	}
}

func TestSignalEndsABuildWhoseSourceIsSilent(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	in, blobs := filepath.Join(dir, "in.tar"), filepath.Join(dir, "blobs")
	must(t, unix.Mkfifo(in, 0o600), os.Mkdir(blobs, 0o700))
	layer := layerTar(t, converterLayers[0]...)
	cmd := nydusImageCommand(t.Context(), "create", "-t", "tar-rafs", "--blob-inline-meta", "-D", blobs, in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	_, err = w.Write(layer[:len(layer)/2])
	must(t, err, cmd.Process.Signal(unix.SIGTERM))
	if got := exitOf(cmd.Wait()); got != 1 || stderr.String() != "Error: interrupted\n" {
		t.Errorf("exit %d: %s", got, stderr.String())
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
