package registry

import "strings"

// Bounds of what a server's challenges can make us hold.
const (
	maxChallenges = 8
	maxParams     = 16
)

// A challenge is one way to show who asks (RFC 9110, section 11.3).
type challenge struct {
	scheme string            // in lower case
	params map[string]string // by names in lower case
}

// parseChallenges reads WWW-Authenticate headers, as far as they make sense: of
// what is malformed, what stands before it counts.
func parseChallenges(headers []string) (list []challenge) {
	for _, h := range headers {
		s := &challengeScanner{rest: h}
		for len(list) < maxChallenges {
			c, ok := s.next()
			if !ok {
				break
			}
			list = append(list, c)
		}
	}
	return list
}

// A challengeScanner goes through one header.
//
//	Bearer realm="https://auth",service="r" , Basic realm="r"
//	scheme param               , param     , scheme param
type challengeScanner struct {
	rest   string
	scheme string // the next one, if it was met already
}

// next gives the next challenge.
func (s *challengeScanner) next() (c challenge, ok bool) {
	if c.scheme = s.scheme; c.scheme == "" {
		c.scheme = s.word()
	}
	s.scheme = ""
	if c.scheme == "" {
		return c, false
	}
	c.scheme, c.params = strings.ToLower(c.scheme), map[string]string{}
	for {
		name := s.word()
		if name == "" {
			return c, true
		}
		if !s.equals() {
			s.scheme = name // no parameter, but what comes after this challenge
			return c, true
		}
		if value := s.value(); len(c.params) < maxParams {
			c.params[strings.ToLower(name)] = value
		}
	}
}

const blank = " \t"

// word takes a token, with what separates it from what stands before it.
func (s *challengeScanner) word() string {
	s.rest = strings.TrimLeft(s.rest, blank+",")
	end := strings.IndexAny(s.rest, blank+`,="`)
	if end < 0 {
		end = len(s.rest)
	}
	w := s.rest[:end]
	s.rest = s.rest[end:]
	return w
}

func (s *challengeScanner) equals() bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(s.rest, blank), "=")
	if ok {
		s.rest = strings.TrimLeft(rest, blank)
	}
	return ok
}

// value takes a token or a quoted string.
func (s *challengeScanner) value() string {
	quoted, ok := strings.CutPrefix(s.rest, `"`)
	if !ok {
		end := strings.IndexAny(s.rest, blank+",")
		if end < 0 {
			end = len(s.rest)
		}
		v := s.rest[:end]
		s.rest = s.rest[end:]
		return v
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch quoted[i] {
		case '"':
			s.rest = quoted[i+1:]
			return b.String()
		case '\\':
			if i++; i == len(quoted) {
				break
			}
			fallthrough
		default:
			b.WriteByte(quoted[i])
		}
	}
	s.rest = "" // the closing quote is missing
	return b.String()
}
