package logsink

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vrafs/internal/opener"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecordsArriveInOrderAndWhole(t *testing.T) {
	var out bytes.Buffer
	s := Start(&out)
	var want strings.Builder
	for i := range 1000 {
		rec := fmt.Sprintf("record %d\n", i)
		want.WriteString(rec)
		if n, err := s.Write([]byte(rec)); n != len(rec) || err != nil {
			t.Fatal(n, err)
		}
	}
	s.Close(time.Minute)
	if out.String() != want.String() {
		t.Errorf("got %d bytes, want %d", out.Len(), want.Len())
	}
}

func TestNoLineIsLong(t *testing.T) {
	for _, n := range []int{0, 1, MaxLine - 2, MaxLine - 1, MaxLine, 70 << 10, 10 << 20} {
		rec := strings.Repeat("x", n) + "\nsecond\n"
		out := cut([]byte(rec))
		if len(out) > maxRecord+64 {
			t.Errorf("%d: record of %d bytes", n, len(out))
		}
		for line := range bytes.Lines(out) {
			if len(line) > MaxLine {
				t.Errorf("%d: line of %d bytes", n, len(line))
			}
		}
		if n < MaxLine && string(out) != rec {
			t.Errorf("%d: changed", n)
		}
		if out[len(out)-1] != '\n' {
			t.Errorf("%d: no line feed at the end", n)
		}
	}
}

// stuck blocks its first write until released.
type stuck struct {
	entered, release chan struct{}
	out              bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
	return s.out.Write(p)
}

func TestStuckReaderStopsNobody(t *testing.T) {
	w := &stuck{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := Start(w)
	_, _ = s.Write([]byte("first\n"))
	<-w.entered
	rec := []byte(strings.Repeat("x", 1000) + "\n")
	for range 2 * maxQueued / len(rec) {
		_, _ = s.Write(rec)
	}
	s.Close(0) // returns although nothing was written
	close(w.release)
	<-s.done
	got := w.out.String()
	if !strings.HasPrefix(got, "first\n") || len(got) > maxQueued+1000 || !strings.Contains(got, "log records were dropped") {
		t.Errorf("got %d bytes ending in %q", len(got), got[len(got)-100:])
	}
}

func TestFullFileIsSetAside(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFile(opener.Local(), filepath.Join(dir, "new", "nydusd"), 100)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Date(2026, 7, 24, 8, 0, 0, 0, time.UTC)
	f.now = func() time.Time { clock = clock.Add(time.Second); return clock }
	line := strings.Repeat("y", 59) + "\n"
	for range 30 {
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "new", "*"))
	if len(names) != kept+1 || filepath.Base(names[0]) != "nydusd.log" {
		t.Fatalf("got %q", names)
	}
	z, err := os.Open(names[kept])
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r, err := gzip.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != line+line {
		t.Errorf("%s holds %q, %v", names[kept], got, err)
	}
}

func TestReopenedFileCountsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	for range 3 {
		f, err := OpenFile(opener.Local(), path, 8)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte("0123456789\n"))
		_ = f.Close()
	}
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "a_r*.txt.gz"))
	if len(names) != 2 {
		t.Errorf("got %q", names)
	}
}

func TestRepeatedMessagesAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var l Limiter
	for i := range 100 {
		l.Warn(log, "kind a", "n", i)
		l.Info(log, "kind b", "n", i)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "level=WARN") {
		t.Errorf("got %q", out.String())
	}
}
