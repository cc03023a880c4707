package backend

import "context"

type (
	originKey   struct{}
	prefetchKey struct{}
)

// FromOrigin asks a read to pass by every cache and peer on the way and to fetch
// from where the blob was published. It is for the second attempt after wrong bytes.
func FromOrigin(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, true)
}

// WantsOrigin reports whether ctx comes from FromOrigin. Back ends without
// anything in between need not ask.
func WantsOrigin(ctx context.Context) bool {
	origin, _ := ctx.Value(originKey{}).(bool)
	return origin
}

// ForPrefetch marks a read that nobody waits for.
func ForPrefetch(ctx context.Context) context.Context {
	return context.WithValue(ctx, prefetchKey{}, true)
}

// IsPrefetch reports whether ctx comes from ForPrefetch.
func IsPrefetch(ctx context.Context) bool {
	prefetch, _ := ctx.Value(prefetchKey{}).(bool)
	return prefetch
}
