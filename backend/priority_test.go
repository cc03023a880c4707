package backend

import "testing"

func TestPrefetchEndsWhenSomebodyWaits(t *testing.T) {
	if ctx := t.Context(); IsPrefetch(ctx) || Wanted(ctx) != nil {
		t.Error("a plain read is a prefetch")
	}
	if ctx := ForPrefetch(t.Context()); !IsPrefetch(ctx) || Wanted(ctx) != nil {
		t.Error("a prefetch for good is none, or may end")
	}
	wanted := make(chan struct{})
	ctx := ForPrefetchUntil(t.Context(), wanted)
	if !IsPrefetch(ctx) {
		t.Error("not a prefetch before somebody waits")
	}
	close(wanted)
	if _, open := <-Wanted(ctx); open || IsPrefetch(ctx) {
		t.Error("still a prefetch when somebody waits")
	}
}
