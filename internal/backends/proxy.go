package backends

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"vrafs/backend"
	"vrafs/backend/window"
	"vrafs/config"
	"vrafs/internal/httprange"
)

// proxy is the proxy of a configuration. It may be given another address at any time,
// also where none is configured.
func (o *Options) proxy(p *config.Proxy) (httprange.Proxy, error) {
	configured, err := proxyURL("proxy.url", p.URL.Reveal())
	if err != nil {
		return httprange.Proxy{}, err
	}
	ping, err := proxyURL("proxy.ping_url", p.PingURL.Reveal())
	if err != nil {
		return httprange.Proxy{}, err
	}
	peer, err := o.peers(p.DragonflySchedulerEndpoint.Reveal())
	if err != nil {
		return httprange.Proxy{}, err
	}
	current := func() *url.URL {
		if u, err := proxyURL("proxy_url", o.setting("proxy_url", "")); err == nil && u != nil {
			return u
		}
		return configured
	}
	return httprange.Proxy{
		URL: current, Peer: peer, Ping: ping, Fallback: p.Fallback, UseHTTP: p.UseHTTP,
		Interval: interval(p.CheckInterval), Pause: interval(p.CheckPauseElapsed),
	}, nil
}

// keptWindows bounds what a back end keeps by itself that was read for peers, in bytes.
const keptWindows = 16 << 20

// share reads in windows, where they go through a proxy that may share them between
// hosts. What has mirrors before its proxy is read exactly.
func (o *Options) share(h *config.HTTP, r remote, blobs backend.Opener) backend.Opener {
	p, ok := r.(interface{ Proxied(context.Context) bool })
	if !ok || h.Proxy.WindowSize == 0 {
		return blobs
	}
	memory := o.Network.Windows
	if memory == nil {
		memory = window.NewMemory(keptWindows)
	}
	return window.New(blobs, window.Options{Size: h.Proxy.WindowSize, Memory: memory, Shared: p.Proxied, Origin: h.Proxy.Fallback})
}

// peers gives the seed peers of Dragonfly clusters, if the process asks for them. A
// scheduler may be named, or another, at any time.
func (o *Options) peers(configured string) (func(*url.URL) (*url.URL, bool), error) {
	const key = "dragonfly_scheduler_endpoint"
	if _, err := proxyURL("proxy."+key, configured); err != nil {
		return nil, err
	}
	if o.Network == nil || o.Network.Dragonfly == nil {
		if configured != "" && o.Log != nil {
			o.Log.Warn("configuration has no effect here", "option", key)
		}
		return nil, nil
	}
	return func(u *url.URL) (*url.URL, bool) {
		scheduler := o.setting(key, configured)
		if s, err := proxyURL(key, scheduler); err != nil || s == nil {
			scheduler = configured
		}
		if scheduler == "" {
			return nil, false
		}
		return o.Network.Dragonfly.Peer(strings.TrimRight(scheduler, "/"), u), true
	}, nil
}

// proxyURL reads an address; none is nil. Errors don't show it: it may hold a
// password.
func proxyURL(name, address string) (*url.URL, error) {
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || !httprange.Reachable(u) {
		return nil, fmt.Errorf("%s: not an http address", name)
	}
	return u, nil
}

// interval is a time of a configuration, in seconds.
func interval(seconds uint64) time.Duration {
	return time.Duration(min(seconds, math.MaxInt64/uint64(time.Second))) * time.Second
}
