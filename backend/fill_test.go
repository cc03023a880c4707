package backend

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFillTakesWhatFits(t *testing.T) {
	p := make([]byte, 6)
	w := Fill(p)
	if n, err := io.WriteString(w, "ab"); n != 2 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := w.(io.ReaderFrom).ReadFrom(iotest.OneByteReader(strings.NewReader("cd"))); n != 2 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	failed := errors.New("cut")
	if n, err := w.(io.ReaderFrom).ReadFrom(io.MultiReader(strings.NewReader("e"), iotest.ErrReader(failed))); n != 1 || !errors.Is(err, failed) {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := io.WriteString(w, "fg"); n != 1 || !errors.Is(err, io.ErrShortWrite) || string(p) != "abcdef" {
		t.Errorf("got %d, %v, %q", n, err, p)
	}
}
