package backend

import "context"

type originKey struct{}

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
