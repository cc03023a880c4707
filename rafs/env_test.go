package rafs_test

import (
	"os"
	"testing"
)

func testdata(t testing.TB) string {
	const dir = "../../shared/testdata/nydus"
	if _, err := os.Stat(dir); err != nil {
		t.Skip(err)
	}
	return dir
}
