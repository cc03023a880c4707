package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"syscall"
	"time"

	"vrafs/test/vm/guestapi"
)

const maxOutput = 64 << 10 // bytes kept of a program's output

// A limitedBuffer keeps the first maxOutput bytes and swallows the rest.
type limitedBuffer struct{ bytes.Buffer }

func (l *limitedBuffer) Write(b []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

func doRun(a guestapi.RunArgs) (r guestapi.RunResult, err error) {
	if len(a.Argv) == 0 {
		return r, errors.New("no program")
	}
	if a.Timeout == 0 {
		a.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	var out limitedBuffer
	// The path is looked up in the new root, so exec.Command must not do it here.
	cmd := exec.CommandContext(ctx, a.Argv[0], a.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = a.Env, "/", &out, &out
	if a.Root != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: a.Root}
	}
	start := time.Now()
	err = cmd.Run()
	r = guestapi.RunResult{Code: cmd.ProcessState.ExitCode(), Output: out.String(), Took: time.Since(start)}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil // the exit code is the answer
	}
	return r, err
}
