package vm

import (
	"bytes"
	"os/exec"
	"testing"

	"vrafs/internal/testenv"
)

func TestCpioIsReadBack(t *testing.T) {
	if testenv.Program("cpio") == "" {
		t.Log("no program cpio: only the shape is checked")
	}
	var b bytes.Buffer
	c := &cpioWriter{w: &b}
	c.add("dir", cpioDir|0o755, 0, 0, nil)
	c.add("dir/odd", cpioFile|0o644, 0, 0, []byte("12345"))
	c.add("dir/even", cpioFile|0o644, 0, 0, []byte("12345678"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes: not a multiple of four", b.Len())
	}
	if testenv.Program("cpio") == "" {
		return
	}
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-id", "--quiet")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("sh", "-c", "cd '"+dir+"' && cat dir/odd dir/even").Output()
	if err != nil || string(out) != "1234512345678" {
		t.Errorf("got %q, %v", out, err)
	}
}
