package registry

import "testing"

// TestMirrorsInTheClearGetNothingThatCameOverTLS, unless they are on this host or the
// configuration doesn't mind.
func TestMirrorsInTheClearGetNothingThatCameOverTLS(t *testing.T) {
	for _, tt := range []struct {
		origin, scheme, host string
		skip, shown          bool
	}{
		{"https", "https", "mirror:1", false, true},
		{"http", "http", "mirror:1", false, true},
		{"https", "http", "mirror:1", false, false},
		{"https", "http", "10.0.0.1", false, false},
		{"https", "http", "127.0.0.1:65001", false, true},
		{"https", "http", "[::1]:65001", false, true},
		{"https", "http", "localhost:65001", false, true},
		{"https", "http", "mirror:1", true, true},
	} {
		origin := open(t, "origin", func(o *Options) { o.Scheme, o.Token = tt.origin, func() string { return "secret" } })
		m := open(t, tt.host, func(o *Options) { o.Scheme, o.Origin, o.HTTP.SkipVerify = tt.scheme, origin, tt.skip })
		if got := m.grant().header != ""; got != tt.shown {
			t.Errorf("%+v: shown %v", tt, got)
		}
	}
}
