package workload

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testoci"
)

// A workload is a program of an image, and what shows that it has started.
type workload struct {
	name    string
	image   func(testing.TB) *testoci.Image
	command []string
	says    string // by the program that has ended, or
	answers string // to GET on port 8080
	// prepare puts into the writable layer what the image lacks; may be nil.
	prepare func(root string) error
}

var workloads = []workload{
	{name: "python", image: testoci.Python, command: []string{"/usr/bin/python3", "-c", "import json, ssl, asyncio; print('started')"}, says: "started"},
	{name: "nginx", image: testoci.Nginx, command: []string{"/usr/sbin/nginx", "-g", "daemon off;"}, answers: "ready"},
	{name: "jvm", image: testoci.JVM, command: []string{"/usr/bin/java", "-cp", "/tmp", "Hello"}, says: "Hello", prepare: addHello},
}

// helloClass is Hello.class: public static void main(String[] a) { System.out.println("Hello"); }
const helloClass = "yv66vgAAAD0AGQoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWCQAIAAkHAAoMAAsADAEAEGphdmEvbGFuZy9TeXN0ZW0BAANvdXQBABVMamF2YS9pby9QcmludFN0cmVhbTsIAA4BAAVIZWxsbwoAEAARBwASDAATABQBABNqYXZhL2lvL1ByaW50U3RyZWFtAQAHcHJpbnRsbgEAFShMamF2YS9sYW5nL1N0cmluZzspVgcADgEABENvZGUBAARtYWluAQAWKFtMamF2YS9sYW5nL1N0cmluZzspVgAhABUAAgAAAAAAAgABAAUABgABABYAAAARAAEAAQAAAAUqtwABsQAAAAAACQAXABgAAQAWAAAAFQACAAEAAAAJsgAHEg22AA+xAAAAAAAA"

func addHello(root string) error {
	class, err := base64.StdEncoding.DecodeString(helloClass)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "tmp/Hello.class"), class, 0o644)
}

// start runs the program in root until it has shown that it works, and ends it.
func (w *workload) start(ctx context.Context, s *stage, root string) error {
	// Not by SysProcAttr.Chroot: this process would wait for the execve with a thread that
	// its collector waits for, and the execve for what the line in this process passes on.
	cmd := exec.CommandContext(ctx, "chroot", append([]string{root}, w.command...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if w.prepare != nil {
		if err := w.prepare(root); err != nil {
			return err
		}
	}
	if err := s.host.Start(cmd); err != nil {
		return err
	}
	err := error(nil)
	if w.answers != "" {
		err = w.ask(ctx, s)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	} else if err = cmd.Wait(); err == nil && !strings.Contains(out.String(), w.says) {
		err = fmt.Errorf("it does not say %q", w.says)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", w.name, err, &out)
	}
	return nil
}

// ask asks the server on the host until it answers.
func (w *workload) ask(ctx context.Context, s *stage) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.host.Dial(ctx, "tcp", "127.0.0.1:8080")
	}}}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		resp, err := client.Get("http://app:8080/")
		if err == nil {
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && !strings.Contains(string(text), w.answers) {
				err = fmt.Errorf("it answers %s %q", resp.Status, text)
			}
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// A root is a directory in which programs run: proc and dev are there, and what they
// write goes to memory.
type root struct {
	dir  string
	undo []func() error
}

// newRoot stacks a writable layer on a directory.
func newRoot(lower, dir string) (r *root, err error) {
	r = &root{dir: filepath.Join(dir, "root")}
	defer func() {
		if err != nil {
			_ = r.close()
		}
	}()
	layer := filepath.Join(dir, "layer")
	for _, d := range []string{r.dir, layer} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return r, err
		}
	}
	if err := r.mount("tmpfs", layer, "tmpfs", 0, ""); err != nil {
		return r, err
	}
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return r, err
		}
	}
	if err := r.mount("overlay", r.dir, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		return r, err
	}
	if err := r.mount("proc", filepath.Join(r.dir, "proc"), "proc", 0, ""); err != nil {
		return r, err
	}
	return r, r.mount("/dev", filepath.Join(r.dir, "dev"), "", unix.MS_BIND, "")
}

func (r *root) mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, target, err)
	}
	r.undo = append(r.undo, func() error { return unix.Unmount(target, 0) })
	return nil
}

// close takes everything down again.
func (r *root) close() error {
	for len(r.undo) > 0 {
		last := len(r.undo) - 1
		if err := r.undo[last](); err != nil {
			return fmt.Errorf("unmount of %s: %w", r.dir, err)
		}
		r.undo = r.undo[:last]
	}
	return nil
}
