package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenges(t *testing.T) {
	type params = map[string]string
	for _, tt := range []struct {
		name    string
		headers []string
		want    []challenge
	}{
		{"none", nil, nil},
		{"no parameters", []string{"Negotiate"}, []challenge{{"negotiate", params{}}}},
		{"bearer", []string{`Bearer realm="https://a/t",service="s", scope="repository:a/b:pull,push"`},
			[]challenge{{"bearer", params{"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"}}}},
		{"bare values and odd case", []string{`BASIC Realm = r , charset=UTF-8`},
			[]challenge{{"basic", params{"realm": "r", "charset": "UTF-8"}}}},
		{"escapes", []string{`Basic realm="a \"b\" \\"`}, []challenge{{"basic", params{"realm": `a "b" \`}}}},
		{"two in one header", []string{`Basic realm="r", Bearer realm="u"`},
			[]challenge{{"basic", params{"realm": "r"}}, {"bearer", params{"realm": "u"}}}},
		{"two headers", []string{`Basic realm="r"`, `Bearer realm="u"`},
			[]challenge{{"basic", params{"realm": "r"}}, {"bearer", params{"realm": "u"}}}},
		{"no closing quote", []string{`Bearer realm="u`}, []challenge{{"bearer", params{"realm": "u"}}}},
		{"nothing that is one", []string{`="",,=`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseChallenges(tt.headers), cmp.AllowUnexported(challenge{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
