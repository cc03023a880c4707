package main

import (
	"strings"
	"testing"
)

// TestInfoShowsTheDayOfAMount: the API gives the day of the year, as nydusd does.
func TestInfoShowsTheDayOfAMount(t *testing.T) {
	var b strings.Builder
	const answer = `{"version":{},"state":"RUNNING","backend_collection":{"/":{"backend_type":"rafs","mounted_time":[2026,334,16,37,8,902137045,0,0,0],"config":{}}}}`
	if err := showInfo(&b, []byte(answer)); err != nil {
		t.Fatal(err)
	}
	if want := "  Mounted:\t2026-11-30 16:37:08 UTC\n"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, b.String())
	}
	if strings.Contains(b.String(), "ID:") {
		t.Errorf("an id that there is none of in\n%s", b.String())
	}
}
