package api

import (
	"fmt"
	"net/url"
	"strings"
)

// query finds the first value of key in a raw query, decoded once. A plus sign
// stays one: Kata's Go runtime sends container names unescaped, and they may
// contain it.
func query(raw, key string) (value string, ok bool, err error) {
	for pair := range strings.SplitSeq(raw, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if k != key {
			continue
		}
		v, err := url.PathUnescape(v)
		if err != nil {
			return "", false, &queryError{fmt.Sprintf("'%s' is not percent-encoded", key)}
		}
		return v, true, nil
	}
	return "", false, nil
}

// requiredQuery is query for a key that must be there.
func requiredQuery(raw, key string) (string, error) {
	v, ok, err := query(raw, key)
	if err == nil && !ok {
		err = &queryError{fmt.Sprintf("'%s' should be specified in query string", key)}
	}
	return v, err
}

// A queryError is a missing or malformed query parameter.
type queryError struct{ why string }

func (e *queryError) Error() string { return "QueryString(" + quote(e.why) + ")" }
