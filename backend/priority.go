package backend

import "context"

type (
	originKey    struct{}
	prefetchKey  struct{}
	elsewhereKey struct{}
	peersKey     struct{}
	streamKey    struct{}
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
func ForPrefetch(ctx context.Context) context.Context { return ForPrefetchUntil(ctx, nil) }

// ForPrefetchUntil marks a read that nobody waits for until wanted is closed: then
// somebody does, and whatever holds the read back for the sake of others lets it go.
func ForPrefetchUntil(ctx context.Context, wanted <-chan struct{}) context.Context {
	return context.WithValue(ctx, prefetchKey{}, wanted)
}

// IsPrefetch reports whether nobody waits for the read of ctx at this moment.
func IsPrefetch(ctx context.Context) bool {
	wanted, prefetch := ctx.Value(prefetchKey{}).(<-chan struct{})
	select {
	case <-wanted:
		return false
	default:
		return prefetch
	}
}

// Wanted is closed when somebody begins to wait for the prefetch of ctx. It is nil
// where that can't happen, and for reads that somebody waits for from the start.
func Wanted(ctx context.Context) <-chan struct{} {
	wanted, _ := ctx.Value(prefetchKey{}).(<-chan struct{})
	return wanted
}

// InStream marks a read as part of a pass over a blob, each read beginning where the last
// one ended or a little later, up to byte end.
func InStream(ctx context.Context, end uint64) context.Context {
	return context.WithValue(ctx, streamKey{}, end)
}

// StreamEnd is the end of the pass that the read of ctx is part of, if it is.
func StreamEnd(ctx context.Context) (end uint64, ok bool) {
	end, ok = ctx.Value(streamKey{}).(uint64)
	return end, ok
}

// Elsewhere marks a second request beside one that is late: it is to go another way
// than the first, if there is one.
func Elsewhere(ctx context.Context) context.Context {
	return context.WithValue(ctx, elsewhereKey{}, true)
}

// WantsElsewhere reports whether ctx comes from Elsewhere.
func WantsElsewhere(ctx context.Context) bool {
	elsewhere, _ := ctx.Value(elsewhereKey{}).(bool)
	return elsewhere
}

// ForPeers marks a read that takes more along than is wanted, since what is on the way
// shares it with others. It is not to be asked of the origin itself: there it fails.
func ForPeers(ctx context.Context) context.Context {
	return context.WithValue(ctx, peersKey{}, true)
}

// IsForPeers reports whether ctx comes from ForPeers.
func IsForPeers(ctx context.Context) bool {
	peers, _ := ctx.Value(peersKey{}).(bool)
	return peers
}
