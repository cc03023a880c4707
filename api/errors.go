package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// A Kind is the class of a daemon's refusal; it chooses the status.
type Kind uint8

// The kinds of error.
const (
	Other           Kind = iota // 500
	NotReady                    // 503: the session is not negotiated yet
	Unsupported                 // 501: not in this mode
	UnexpectedEvent             // 400: the state machine refuses; Text is the event
	UpgradeManager              // 500: supervisor trouble
	Serde                       // 500: a saved state or a configuration can't be read
	NoCounter                   // 404: unknown or ambiguous metrics id
	BadPayload                  // 500: a value that can't be applied
	BadRequest                  // 400: malformed request; Text says what is wrong with its body
)

// An Error is a refusal with a kind. Text must not hold a secret.
type Error struct {
	Kind Kind
	Text string
}

// Errorf returns an *Error.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.debug()
	}
	return e.Text
}

// debug renders the kind as nydusd's debug formatting does.
func (e *Error) debug() string {
	switch e.Kind {
	case NotReady:
		return "NotReady"
	case Unsupported:
		return "Unsupported"
	case UnexpectedEvent:
		return "UnexpectedEvent(" + quote(e.Text) + ")"
	case UpgradeManager:
		return "UpgradeManager(" + quote(e.Text) + ")"
	case Serde:
		return "Serde(" + quote(e.Text) + ")"
	case NoCounter:
		return "NoCounter"
	case BadPayload:
		return "ResponsePayloadType"
	case BadRequest:
		return "BadRequest"
	}
	return "Other(" + quote(e.Text) + ")"
}

func (e *Error) status() int {
	switch e.Kind {
	case NotReady:
		return http.StatusServiceUnavailable
	case Unsupported:
		return http.StatusNotImplemented
	case UnexpectedEvent, BadRequest:
		return http.StatusBadRequest
	case NoCounter:
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// A wrapper puts a daemon's error into the middle layer of the rendering.
type wrapper string

// The middle layers.
const (
	daemonAbnormal  wrapper = "DaemonAbnormal"
	mountFilesystem wrapper = "MountFilesystem"
	metricsDaemon   wrapper = "Metrics"
	eventsError     wrapper = "Events"
)

// render gives the status and message for an error of an endpoint.
func render(tag string, w wrapper, err error) (int, string) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Other, err.Error()}
	}
	inner := ""
	switch {
	case e.Kind == BadRequest && e.Text != "":
		return e.status(), (&bodyError{why: e.Text}).Error()
	case e.Kind == BadRequest:
		return e.status(), "BadRequest"
	case e.Kind == BadPayload:
		inner = "ResponsePayloadType"
	case e.Kind == NoCounter:
		inner = "Metrics(Stats(NoCounter))"
	case w == metricsDaemon:
		inner = "Metrics(Daemon(" + e.debug() + "))"
	case w == eventsError:
		inner = "Events(" + quote(e.Text) + ")"
	default:
		inner = string(w) + "(" + e.debug() + ")"
	}
	return e.status(), tag + "(" + inner + ")"
}

// quote renders a text as nydusd's debug formatting does.
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case 0:
			b.WriteString(`\0`)
		default:
			if unicode.IsPrint(r) {
				b.WriteRune(r)
			} else {
				fmt.Fprintf(&b, `\u{%x}`, r)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}
