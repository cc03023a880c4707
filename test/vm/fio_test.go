package vm

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"
)

// fioDir is where the guest finds fio, its loader and its libraries.
const fioDir = guestapi.FilesDir + "/fio"

// fioFiles is the machine's own fio with all it needs.
func fioFiles(b *testing.B) map[string][]byte {
	b.Helper()
	testenv.Need(b, testenv.Fio)
	program := testenv.Program("fio")
	files := map[string][]byte{"fio/fio": readFile(b, program)}
	for _, library := range libraries(b, program) {
		name := filepath.Base(library)
		if strings.HasPrefix(name, "ld-") {
			name = "loader"
		}
		files["fio/"+name] = readFile(b, library)
	}
	return files
}

// fioJobs are the reads that a virtio-fs user would measure.
var fioJobs = []struct {
	name, mode, block string
	depth             int
}{
	{"fio random 4 KiB, depth 1", "randread", "4k", 1},
	{"fio random 4 KiB, depth 32", "randread", "4k", 32},
	{"fio sequential 128 KiB", "read", "128k", 4},
	{"fio sequential 1 MiB", "read", "1m", 4},
}

const fioTime = 3 * time.Second

// runFio runs every job on one file past the guest's page cache.
func runFio(b *testing.B, m *Machine, file string) {
	b.Helper()
	for _, j := range fioJobs {
		r := call[guestapi.RunResult](b, m, guestapi.Run, guestapi.RunArgs{Argv: []string{
			fioDir + "/loader", "--library-path", fioDir, fioDir + "/fio",
			"--name=job", "--thread", "--readonly", "--direct=1", "--ioengine=libaio", "--filename=" + file,
			"--rw=" + j.mode, "--bs=" + j.block, fmt.Sprintf("--iodepth=%d", j.depth),
			"--time_based", fmt.Sprintf("--runtime=%d", int(fioTime.Seconds())), "--output-format=json",
		}})
		report(b, fioFigure(b, j.name, r))
	}
}

// fioFigure reads fio's JSON, which may stand behind warnings.
func fioFigure(b *testing.B, name string, r guestapi.RunResult) guestapi.Figure {
	b.Helper()
	var out struct {
		Jobs []struct {
			Read struct {
				IOs     int64 `json:"total_ios"`
				Bytes   int64 `json:"io_bytes"`
				Runtime int64 `json:"runtime"` // ms
			} `json:"read"`
		} `json:"jobs"`
	}
	_, text, _ := strings.Cut(r.Output, "{")
	if err := json.Unmarshal([]byte("{"+text), &out); err != nil || len(out.Jobs) != 1 {
		b.Fatalf("%s: exit code %d, %v in %q", name, r.Code, err, r.Output)
	}
	read := out.Jobs[0].Read
	return guestapi.Figure{Name: name, Ops: read.IOs, Bytes: read.Bytes, Took: time.Duration(read.Runtime) * time.Millisecond}
}
