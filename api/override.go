package api

import (
	"net/http"
	"slices"
)

// overridable are the keys that may change under a mounted image, as nydusd has them, and
// hidden those of ours, which are credentials that no client has to read back.
var (
	overridable = []string{"registry_auth", "proxy_url", "dragonfly_scheduler_endpoint"}
	hidden      = append([]string{"registry_token"}, storeKeys...)
)

// The keys of an object store. They are one credential: a part of the next one beside a
// part of the last would let nobody in.
const (
	keyID     = "access_key_id"
	keySecret = "access_key_secret"
	keyToken  = "security_token"
)

var storeKeys = []string{keyID, keySecret, keyToken}

// getOverride answers without what is hidden.
func getOverride(d Daemon, r *http.Request) (any, error) {
	id, _, err := query(r.URL.RawQuery, "id")
	if err != nil {
		return nil, err
	}
	shown := map[string]string{}
	for k, v := range d.Override(id) {
		if !slices.Contains(hidden, k) {
			shown[k] = v
		}
	}
	return shown, nil
}

func setOverride(d Daemon, r *http.Request) (any, error) {
	id, _, err := query(r.URL.RawQuery, "id")
	if err != nil {
		return nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	values, err := parseOverride(body)
	if err != nil {
		return nil, err
	}
	store := map[string]string{}
	for k, v := range values {
		switch {
		case slices.Contains(storeKeys, k):
			store[k] = v
		case !slices.Contains(overridable, k) && !slices.Contains(hidden, k):
			return nil, &Error{Kind: BadPayload}
		}
	}
	if len(store) > 0 {
		if err := wholeKeys(store); err != nil {
			return nil, err
		}
		for _, k := range storeKeys {
			values[k] = store[k] // a token ends with the keys that it came with
		}
	}
	return nil, d.SetOverride(id, values)
}

// wholeKeys checks that a credential has its id and its secret, or is none.
func wholeKeys(m map[string]string) error {
	if (m[keyID] == "") != (m[keySecret] == "") || m[keyToken] != "" && m[keyID] == "" {
		return Errorf(Other, "%s and %s are set together, with the %s of a session", keyID, keySecret, keyToken)
	}
	return nil
}
