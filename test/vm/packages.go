package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// aptOptions let apt work without being root, and download as the user it is.
var aptOptions = []string{"-q", "-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false"}

// apt runs one of apt's programs and returns what it printed.
func apt(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, append(aptOptions[:len(aptOptions):len(aptOptions)], args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, lastLine(exit.Stderr))
	}
	return out, err
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// packageNames lists the packages that apt knows by the start of their names. On a
// machine that never asked its archives (a fresh container) root asks them now.
func packageNames(ctx context.Context, prefix string) ([]string, error) {
	out, err := apt(ctx, "", "apt-cache", "pkgnames", prefix)
	if err == nil && len(out) == 0 && os.Geteuid() == 0 {
		if _, err = apt(ctx, "", "apt-get", "update"); err == nil {
			out, err = apt(ctx, "", "apt-cache", "pkgnames", prefix)
		}
	}
	return strings.Fields(string(out)), err
}

// PackageClosure lists what apt would install for the named packages on a machine
// that has nothing, in apt's order. It needs no root.
func PackageClosure(ctx context.Context, names []string) ([]string, error) {
	args := append([]string{"-s", "-o", "Dir::State::status=/dev/null", "install"}, names...)
	out, err := apt(ctx, "", "apt-get", args...)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Inst" {
			all = append(all, f[1])
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("apt-get would install nothing for %s", strings.Join(names, " "))
	}
	return all, nil
}

// UnpackPackages downloads packages and unpacks their files below root. Nothing is
// installed and none of their scripts run; it needs no root.
func UnpackPackages(ctx context.Context, names []string, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(root), "packages-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := apt(ctx, dir, "apt-get", append([]string{"download"}, names...)...); err != nil {
		return fmt.Errorf("%w (apt-get update may help)", err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) != len(names) {
		return fmt.Errorf("apt-get download left %d packages of %d", len(debs), len(names))
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg-deb -x %s: %w: %s", filepath.Base(deb), err, lastLine(out))
		}
	}
	return nil
}
