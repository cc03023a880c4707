package credhelper

import (
	"encoding/base64"
	"net"
	"slices"
	"strings"
)

// find gives the credentials for an image: those of the first pattern that fits, from the
// last in the order of bytes, as kubelet does.
func (a *answer) find(image string) (Credentials, bool) {
	patterns := make([]string, 0, len(a.auth))
	for p := range a.auth {
		patterns = append(patterns, p)
	}
	slices.Sort(patterns)
	for _, p := range slices.Backward(patterns) {
		if fits(p, image) {
			l := a.auth[p]
			return Credentials{base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Password)), a.end}, true
		}
	}
	return Credentials{}, false
}

// fits reports whether a pattern is one of an image. A pattern is host[:port][/path]; parts
// of the host may have *, which stands for anything within one part. Its port must be
// that of the image, and its path the beginning of that of the image.
func fits(pattern, image string) bool {
	pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, "https://"), "http://")
	wantHost, wantPath, _ := strings.Cut(pattern, "/")
	host, path, _ := strings.Cut(image, "/")
	wantHost, wantPort := splitPort(wantHost)
	host, port := splitPort(host)
	want, got := strings.Split(wantHost, "."), strings.Split(host, ".")
	if port != wantPort || len(want) != len(got) || !strings.HasPrefix(path, wantPath) {
		return false
	}
	for i := range want {
		if !glob(want[i], got[i]) {
			return false
		}
	}
	return true
}

func splitPort(host string) (name, port string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, port
	}
	return host, ""
}

// glob reports whether s is what pattern says, in which * stands for anything.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
