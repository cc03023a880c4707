package httprange

import (
	"fmt"
	"net/http"
	"net/url"

	"vrafs/internal/opener"
)

// A Bucket is where an object store keeps blobs, and who asks for them.
type Bucket struct {
	HTTP     Options
	Scheme   string // "http" or "https"
	Endpoint string // name[:port]
	Name     string
	Prefix   string // of every object's name
	// Keys are asked for at every request, since they may change; empty ones read
	// anonymously.
	Keys func() Keys
}

// Store makes a Store of a kind of object store, whose Base is yet to be told: Host and
// Path are those of the endpoint and of the prefix. sign is as Store.Sign, and check names
// what else may be wrong where the store doesn't let us in.
func (b *Bucket) Store(o opener.Opener, kind string, sign func(Keys, *url.URL, http.Header), check string) (*Store, error) {
	if (b.Scheme != "http" && b.Scheme != "https") || b.Endpoint == "" || b.Name == "" {
		return nil, fmt.Errorf("%s: scheme %q, endpoint %q, bucket %q: not an address", kind, b.Scheme, b.Endpoint, b.Name)
	}
	client, err := New(o, b.HTTP)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, b.Endpoint, err)
	}
	return &Store{
		Client: client, Base: url.URL{Scheme: b.Scheme, Host: b.Endpoint, Path: "/" + b.Prefix}, Keys: b.Keys, Sign: sign,
		Denied: "check access_key_id, access_key_secret, security_token" + check + "; they must allow GetObject in " + b.Name,
	}, nil
}
