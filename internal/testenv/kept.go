package testenv

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kept is the directory name in CacheDir, which make fills unless it is there. Only
// one process at a time works on it, and it appears whole or not at all. make gets
// the place where it works, a new directory; nothing may change what it made later:
// name counts up when make makes something else.
func Kept(name string, make func(dir string) error) (string, error) {
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(CacheDir(), name)
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	temp := dir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return "", err
	}
	if err := os.Mkdir(temp, 0o755); err != nil {
		return "", err
	}
	if err := make(temp); err != nil {
		return "", err
	}
	return dir, os.Rename(temp, dir)
}
