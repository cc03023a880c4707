package containerd

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"vrafs/internal/testenv"
)

// A container runs reader, in the foreground of a ctr.
type container struct {
	t   *testing.T
	s   *stage
	id  string
	cmd *exec.Cmd

	mu     sync.Mutex
	passes int
	last   string        // line that is not a pass
	grown  chan struct{} // closed and replaced with each pass
	ended  chan struct{} // the output has ended
}

// run starts a container that reads until it is stopped.
func (s *stage) run(t *testing.T, id string) *container {
	t.Helper()
	c := &container{t: t, s: s, id: id, grown: make(chan struct{}), ended: make(chan struct{})}
	c.cmd = s.withPath(testenv.Program("ctr"), "run", "--rm", "--snapshotter", "nydus", image, id, "/reader")
	var stderr bytes.Buffer
	c.cmd.Stderr = &stderr
	out, err := c.cmd.StdoutPipe()
	must(t, err, c.cmd.Start())
	go c.follow(out)
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // ctr; the container itself ends with the stage
		<-c.ended
		_ = c.cmd.Wait() // its standard error is complete then
		if t.Failed() {
			t.Logf("container %s: %d passes, said %q; ctr: %s", id, c.passes, c.last, stderr.String())
		}
	})
	return c
}

func (c *container) follow(out io.Reader) {
	defer close(c.ended)
	in := bufio.NewScanner(out)
	for in.Scan() {
		c.mu.Lock()
		if line := in.Text(); line == "pass" {
			c.passes++
		} else {
			c.last = line
		}
		close(c.grown)
		c.grown = make(chan struct{})
		c.mu.Unlock()
	}
}

// more waits until everything was read n times more.
func (c *container) more(n int) {
	c.t.Helper()
	limit := time.After(patience)
	want := -1
	for {
		c.mu.Lock()
		have, grown := c.passes, c.grown
		c.mu.Unlock()
		if want < 0 {
			want = have + n
		}
		if have >= want {
			return
		}
		select {
		case <-grown:
		case <-c.ended:
			c.t.Fatalf("the container ended: %s", c.last)
		case <-limit:
			c.t.Fatal("the container's reads hang")
		}
	}
}

// stop ends the container, which must have read without a failure.
func (c *container) stop() {
	c.t.Helper()
	c.s.ctr("task", "kill", "--signal", "SIGTERM", c.id)
	<-c.ended
	if err := c.cmd.Wait(); err != nil || c.last != "" {
		c.t.Errorf("container %s: %v, said %q", c.id, err, c.last)
	}
}

// readOnce runs a container that reads one file.
func (s *stage) readOnce(t *testing.T, id, name string) {
	t.Helper()
	cmd := s.withPath(testenv.Program("ctr"), "run", "--rm", "--snapshotter", "nydus", image, id, "/reader", name)
	if got := strings.TrimSpace(output(t, cmd)); got != "read "+name {
		t.Errorf("container %s said %q", id, got)
	}
}
