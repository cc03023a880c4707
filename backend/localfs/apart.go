package localfs

import "context"

// maxApart bounds the calls under way apart from their callers, and with them the
// threads that a file system can hang. Callers past it wait for a slot.
const maxApart = 64

// slots are taken by sending and given back by receiving.
type slots chan struct{}

// apart gives what f returns, or the cause of ctx if that ends first. f then goes
// on without the caller, so it must not touch memory of the caller's, and what it
// returns goes to drop unless that is nil or f failed.
func apart[T any](ctx context.Context, s slots, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
	done := make(chan result)
	go func() {
		v, err := f()
		<-s
		select {
		case done <- result{v, err}:
		case <-ctx.Done():
			if err == nil && drop != nil {
				drop(v)
			}
		}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}
