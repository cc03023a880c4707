package scatter

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pieces cuts p after every n bytes, with an empty piece between any two.
func pieces(p []byte, n int) (parts [][]byte) {
	for len(p) > 0 {
		k := min(n, len(p))
		parts = append(parts, p[:k:k], nil)
		p = p[k:]
	}
	return parts
}

func TestEveryByteGoesToItsPlace(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 3*MaxVectors+5)
	for i := range want {
		want[i] = byte(i * 7)
	}
	for _, size := range []int{1, 3, 1000, len(want)} {
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		move(t, At(pieces(want, size)), len(want), func(iov []unix.Iovec, off uint64) (int, unix.Errno) {
			return Write(int(f.Fd()), iov, off, 0)
		})
		move(t, At(pieces(got, size)), len(want), func(iov []unix.Iovec, off uint64) (int, unix.Errno) {
			return Read(int(f.Fd()), iov, off, 0)
		})
		if !bytes.Equal(got, want) {
			t.Errorf("pieces of %d bytes: other bytes", size)
		}
	}
}

// move has call do n bytes of the cursor's pieces.
func move(t *testing.T, c Cursor, n int, call func([]unix.Iovec, uint64) (int, unix.Errno)) {
	t.Helper()
	for done := 0; done < n; {
		iov, total := c.Vectors(nil, uint64(n-done))
		if len(iov) > MaxVectors {
			t.Fatalf("%d vectors", len(iov))
		}
		k, errno := call(iov, uint64(done))
		if errno != 0 || k == 0 || k > int(total) {
			t.Fatalf("%d of %d bytes at %d: %v", k, total, done, errno)
		}
		done += k
		if !c.Skip(uint64(k)) {
			t.Fatalf("nothing behind %d bytes", done)
		}
	}
}

func TestCursorStopsAtTheEnd(t *testing.T) {
	c := At(pieces(make([]byte, 10), 4))
	if iov, total := c.Vectors(nil, 7); total != 7 || len(iov) != 2 {
		t.Errorf("%d vectors of %d bytes, want 2 of 7", len(iov), total)
	}
	if !c.Skip(10) || c.Skip(1) {
		t.Error("the end is not where it is")
	}
	if iov, total := c.Vectors(nil, 1); total != 0 || len(iov) != 0 {
		t.Errorf("%d bytes behind the end", total)
	}
}

func TestVectorsTakeNothingNew(t *testing.T) {
	parts := pieces(make([]byte, 64), 8)
	iov := make([]unix.Iovec, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		c := At(parts)
		iov, _ = c.Vectors(iov[:0], 64)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
