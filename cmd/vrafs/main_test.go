package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"vrafs/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		status := run(os.Args)
		if path := os.Getenv(peakFile); path != "" {
			writePeak(path)
		}
		os.Exit(status)
	}
	testscript.Main(m, map[string]func(){"vrafs": main, nydusImage: main})
}

var update = flag.Bool("update", false, "write what commands print into the scripts")

// TestScripts runs testdata/script against this very program. Scripts hold the
// exact output of commands; besides testscript's own commands there are
//
//	status N program args..   run it and want exit status N
//	damage FILE OFFSET HEX    write bytes into a file
func TestScripts(t *testing.T) {
	testenv.Need(t, testenv.Root) // owners and devices
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"status": wantStatus, "damage": damage},
	})
}

func wantStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func damage(ts *testscript.TestScript, _ bool, args []string) {
	off, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	b, err := hex.DecodeString(args[2])
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt(b, off)
	ts.Check(errors.Join(err, f.Close()))
}
