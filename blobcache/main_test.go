package blobcache

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names what a copy of the test binary is to do instead of testing.
const childEnv = "VRAFS_BLOBCACHE_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	goleak.VerifyTestMain(m)
}
