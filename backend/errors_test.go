package backend

import (
	"errors"
	"io"
	"testing"
)

func TestErrorTellsEachPartOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  Error
		want string
	}{
		{"host alone", Error{Host: "h:1"}, "h:1"},
		{"status", Error{Blob: "ab", Host: "h", Status: 404, Class: ErrNotFound}, "blob ab: h answered 404 Not Found"},
		{"unknown status", Error{Host: "h", Status: 599}, "h answered 599"},
		{"cause and remedy", Error{Host: "h", Cause: io.EOF, Remedy: "ask again"}, "h: EOF; ask again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorIsOfItsClasses(t *testing.T) {
	missing := error(&Error{Class: ErrNotFound, Cause: io.EOF})
	for _, class := range []error{ErrNotFound, ErrPermanent, io.EOF} {
		if !errors.Is(missing, class) {
			t.Errorf("%v is not %v", missing, class)
		}
	}
	if passing := error(&Error{Status: 503}); errors.Is(passing, ErrPermanent) || errors.Is(passing, ErrNotFound) {
		t.Error("an error without a class has one")
	}
}
