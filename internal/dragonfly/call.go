package dragonfly

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxAnswer bounds a message of a scheduler or peer, in bytes.
const maxAnswer = 4 << 20

// frameHeader precedes a message: is it compressed, and how long.
const frameHeader = 5

// transport speaks HTTP/2, with TLS and, as Dragonfly does inside of a cluster, without.
// Environment variables name no proxy.
func transport() *http.Transport {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: callTime}).DialContext,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     2 * refresh,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// call is one unary call of gRPC.
func (c *Cluster) call(server, method string, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(c.ctx, callTime)
	defer cancel()
	answer, err := c.exchange(ctx, server+method, message)
	if err != nil {
		return nil, fmt.Errorf("dragonfly: %s: %w", method, plain(err))
	}
	return answer, nil
}

// plain takes the address out of an error: it may hold a password.
func plain(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

func (c *Cluster) exchange(ctx context.Context, address string, message []byte) ([]byte, error) {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(append(body, message...)))
	if err != nil {
		return nil, errors.New("not an address")
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"grpc-vrafs"},
		"Grpc-Timeout": {fmt.Sprintf("%dm", callTime/time.Millisecond)}}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, frameHeader+maxAnswer+1))
	if err != nil {
		return nil, err
	}
	// An answer without message has its status among the headers.
	for _, h := range []http.Header{resp.Trailer, resp.Header} {
		if status := h.Get("Grpc-Status"); status != "" && status != "0" {
			return nil, fmt.Errorf("gRPC status %.3q", status)
		}
	}
	return unframe(text)
}

// unframe takes the only message out of a body.
func unframe(p []byte) ([]byte, error) {
	if len(p) < frameHeader {
		return nil, fmt.Errorf("answer of %d bytes", len(p))
	}
	if p[0] != 0 {
		return nil, errors.New("compressed answer")
	}
	if n := binary.BigEndian.Uint32(p[1:]); uint64(n) != uint64(len(p)-frameHeader) {
		return nil, fmt.Errorf("answer says that it has %d bytes and has %d", n, len(p)-frameHeader)
	}
	return p[frameHeader:], nil
}
