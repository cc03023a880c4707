package daemon

import (
	"context"
	"errors"
	"testing"
)

func TestGateWaitsForThoseInside(t *testing.T) {
	var g gate
	leave, err := g.enter()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.shut(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("shut with a command inside: %v", err)
	}
	if again, err := g.enter(); err != nil { // it is open again
		t.Fatal(err)
	} else {
		again()
	}
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
		if leave, err := g.enter(); err != nil {
			t.Error(err)
		} else {
			leave()
		}
	}()
	select {
	case <-entered:
		t.Error("a command came in while the gate was shut")
	default:
	}
	reopen()
	<-entered
}

func TestBarredGateTurnsAway(t *testing.T) {
	var g gate
	reopen, err := g.shut(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	turned := make(chan error)
	enter := func() {
		_, err := g.enter()
		turned <- err
	}
	go enter() // before or after the bar
	g.bar(errHandedOver)
	go enter()
	for range 2 {
		if err := <-turned; !errors.Is(err, errHandedOver) {
			t.Error(err)
		}
	}
	reopen()
	if leave, err := g.enter(); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}
