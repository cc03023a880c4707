package config

import (
	"fmt"
	"log/slog"
	"strings"
)

const redacted = "[redacted]"

// A Secret holds a credential. The zero value is "none". It sits behind a pointer
// so that no reflection-driven printer shows it either; only Reveal does.
type Secret struct{ v *string }

// NewSecret wraps s; the empty string gives the zero Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.v != nil }

// String says that there is a secret, or is empty.
func (s Secret) String() string {
	if s.v == nil {
		return ""
	}
	return redacted
}

// Format prints String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue is what log/slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText leaves the secret out: it encodes as the empty string, which every
// reader of a configuration takes as absent.
func (s Secret) MarshalText() ([]byte, error) { return []byte{}, nil }

// A URL is an address that may carry credentials. Printed and encoded, it has
// neither user information nor query.
type URL struct{ v *string }

// NewURL wraps s; the empty string gives the zero URL.
func NewURL(s string) URL {
	if s == "" {
		return URL{}
	}
	return URL{&s}
}

// Reveal returns the address with everything in it.
func (u URL) Reveal() string {
	if u.v == nil {
		return ""
	}
	return *u.v
}

// String is the address without user information and query.
func (u URL) String() string {
	s, _, _ := strings.Cut(u.Reveal(), "?")
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	}
	host, path, slash := strings.Cut(rest, "/")
	// Everything up to the last @ of the authority is credentials. A malformed
	// address may hide an @ in what looks like its path: then nothing is shown.
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	if strings.Contains(path, "@") {
		return redacted
	}
	if ok {
		host = scheme + "://" + host
	}
	if slash {
		host += "/" + path
	}
	return host
}

// Format prints String for every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// LogValue is what log/slog prints.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText encodes String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
