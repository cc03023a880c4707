package registry

import (
	"testing"
	"time"
)

// FuzzChallenges: whatever a header holds, it ends in few challenges, none of which
// is larger than the header.
func FuzzChallenges(f *testing.F) {
	f.Fuzz(func(t *testing.T, header string) {
		list := parseChallenges([]string{header, header})
		if len(list) > maxChallenges {
			t.Fatalf("%d challenges", len(list))
		}
		for _, c := range list {
			size := len(c.scheme)
			for name, value := range c.params {
				size += len(name) + len(value)
			}
			// In lower case a byte that is no UTF-8 takes three.
			if c.scheme == "" || len(c.params) > maxParams || size > 3*len(header) {
				t.Fatalf("%+v from %q", c, header)
			}
		}
	})
}

// FuzzToken: what is taken for a token can be sent, and lives within bounds.
func FuzzToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		token, life, err := parseToken(body)
		if err != nil {
			return
		}
		if token == "" || len(token) > maxToken || life < time.Second || life > maxLife {
			t.Fatalf("%q for %v", token, life)
		}
		for _, c := range []byte(token) {
			if c <= ' ' || c > '~' {
				t.Fatalf("%q can't be sent", token)
			}
		}
	})
}
