package workload

import (
	"os"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
)

// needed is what every test here needs.
var needed = []testenv.Feature{testenv.Root, testenv.Netns, testenv.FUSE, testenv.Overlay}

func TestMain(m *testing.M) { os.Exit(testns.Main(m, testns.Options{Needed: needed})) }
