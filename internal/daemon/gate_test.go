package daemon

import (
	"context"
	"errors"
	"testing"
)

func TestGateWaitsForThoseInside(t *testing.T) {
	var g gate
	leave := g.enter()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.shut(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("shut with a command inside: %v", err)
	}
	g.enter()() // it is open again
	shut := make(chan func())
	go func() {
		reopen, err := g.shut(t.Context())
		if err != nil {
			t.Error(err)
		}
		shut <- reopen
	}()
	leave()
	reopen := <-shut
	entered := make(chan struct{})
	go func() {
		defer close(entered)
		g.enter()()
	}()
	select {
	case <-entered:
		t.Error("a command came in while the gate was shut")
	default:
	}
	reopen()
	<-entered
}
