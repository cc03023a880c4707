package backends

import (
	"fmt"
	"net/http"
	"strings"
)

// headerPrefix begins the names of environment variables that are HTTP headers
// (nydusd, section 1.4).
const headerPrefix = "NYDUS_HEADER_"

// HeaderOf is what an environment (NYDUS_HEADER_Name=value) adds to requests of
// back ends. What can't be sent is refused here: later it would fail every request.
func HeaderOf(environ []string) (http.Header, error) {
	h := http.Header{}
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		name, ok := strings.CutPrefix(variable, headerPrefix)
		if !ok {
			continue
		}
		if !validHeader(name, value) {
			return nil, fmt.Errorf("environment variable %.80q: not an HTTP header; unset it", variable)
		}
		h.Set(name, value)
	}
	return h, nil
}

// validHeader reports whether a header can be sent.
func validHeader(name, value string) bool {
	return name != "" && !strings.ContainsFunc(name, notInName) && !strings.ContainsFunc(value, notInValue)
}

func notInName(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func notInValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
