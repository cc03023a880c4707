// Command reader is what the containers run: it reads files and compares them with
// the list of their digests.
//
//	reader NAME...   reads /data/NAME once and says "read NAME"
//	reader           reads all of them again and again, and says "pass" after each
//	                 round, until SIGTERM
//
// Before each read the kernel is asked to forget the file, so that the read reaches
// the daemon behind the file system. The first failure ends the program with
// status 1.
//
// Trust: the image is the tests' own. Concurrency: the endless form reads with
// several goroutines, which share nothing. Source: the points to show of the runc
// issue.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// readers is how many rounds run side by side.
const readers = 3

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func run(names []string) error {
	sums, err := readSums("/sums")
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := check(n, sums[n]); err != nil {
			return err
		}
		fmt.Println("read", n)
	}
	if len(names) > 0 {
		return nil
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	failed := make(chan error, readers)
	for i := range readers {
		go func() { failed <- readForEver(i, sums) }()
	}
	select {
	case <-stop:
		return nil
	case err := <-failed:
		return err
	}
}

// readSums reads lines of a digest and a name.
func readSums(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 {
			sums[f[1]] = f[0]
		}
	}
	return sums, nil
}

// readForEver returns only with a failure.
func readForEver(reader int, sums map[string]string) error {
	for round := 0; ; round++ {
		for name, sum := range sums {
			if err := check(name, sum); err != nil {
				return err
			}
		}
		// A name that was never asked for reaches the daemon too.
		if _, err := os.Lstat(fmt.Sprintf("/data/missing-%d-%d", reader, round)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look up a missing name: %w", err)
		}
		fmt.Println("pass")
	}
}

func check(name, sum string) error {
	f, err := os.Open(filepath.Join("/data", name))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := fmt.Appendf(nil, "%x", h.Sum(nil)); !bytes.Equal(got, []byte(sum)) {
		return fmt.Errorf("%s has digest %s, want %q", name, got, sum)
	}
	return nil
}
