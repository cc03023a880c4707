package backend

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// An Error is one request to a remote store that gave no data, told on one line:
// blob, host, status, cause and remedy, each once. It shows no secret: whoever
// makes one sees to it that Cause holds neither credentials nor signed addresses.
type Error struct {
	Blob   string // the blob's id
	Host   string // name and port of the server that was asked
	Status int    // of its answer; 0 if there was none
	Cause  error  // nil if the status says it all
	Remedy string // what an operator can do, or empty
	// Class is ErrNotFound, ErrPermanent, or nil where another try may help.
	Class error
	// After is how long the server asks to be left alone.
	After time.Duration
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Blob != "" {
		fmt.Fprintf(&b, "blob %s: ", e.Blob)
	}
	b.WriteString(e.Host)
	if e.Status != 0 {
		b.WriteString(strings.TrimRight(fmt.Sprintf(" answered %d %s", e.Status, http.StatusText(e.Status)), " "))
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// A Timeout is the cause of a read that took longer than it may.
type Timeout string

func (t Timeout) Error() string { return string(t) }

// Timeout reports that it is one, as package net's errors do.
func (t Timeout) Timeout() bool { return true }

// Unwrap gives the cause and the classes; what is not found is permanent too.
func (e *Error) Unwrap() []error {
	var list []error
	if e.Cause != nil {
		list = append(list, e.Cause)
	}
	if e.Class != nil {
		list = append(list, e.Class)
	}
	if errors.Is(e.Class, ErrNotFound) {
		list = append(list, ErrPermanent)
	}
	return list
}
