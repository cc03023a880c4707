package httprange

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestFetchSendsForms(t *testing.T) {
	var got *http.Request
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_ = r.ParseForm()
		_, _ = w.Write([]byte("answer"))
	})
	for _, post := range []bool{true, false} {
		f := Form{URL: u, Values: url.Values{"scope": {"repository:a:pull"}}, Post: post, Authorization: "Basic x"}
		body, status, err := client(t, Options{}).Fetch(t.Context(), f, 100)
		if err != nil || status != 200 || string(body) != "answer" {
			t.Fatalf("got %q, %d, %v", body, status, err)
		}
		if (got.Method == http.MethodPost) != post || got.Form.Get("scope") != "repository:a:pull" ||
			got.Form.Get("X-Signature") != "hidden" || got.Header.Get("Authorization") != "Basic x" {
			t.Errorf("sent %s %s %v", got.Method, got.URL, got.Form)
		}
	}
	if u.Query().Has("scope") {
		t.Error("the form's address was changed")
	}
}

func TestFetchRefusesWhatIsNoSmallAnswer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		status  int
		err     error
	}{
		{"endless", answer(200, "", -1, strings.Repeat("x", 101)), 200, errLarge},
		{"denied", answer(401, "", 0, ""), 401, nil},
		{"cut", answer(200, "", 50, "x"), 200, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, status, err := client(t, Options{}).Fetch(t.Context(), Form{URL: serve(t, tt.handler)}, 100)
			if err == nil || body != nil || status != tt.status || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("got %q, %d, %v", body, status, err)
			}
		})
	}
}
