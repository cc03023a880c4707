package dragonfly

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
)

// Fields of the messages that are read or written.
const (
	fieldType      = 1 // ListHostsRequest, varint: hosts of this type
	fieldHosts     = 1 // ListHostsResponse, message each
	hostType       = 2 // Host, varint
	hostIP         = 4 // text
	hostPort       = 5 // varint: its gRPC service
	hostProxyPort  = 19
	fieldServing   = 1 // HealthCheckResponse, varint
	statusServing  = 1
	typeNormal     = 0
	typeSuper      = 1 // the type of seed peers that schedulers are asked for
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireFixed32    = 5
	fieldTypeShift = 3
)

var errMessage = errors.New("malformed message")

// A host is a peer that is a proxy, too.
type host struct {
	ip              string
	port, proxyPort uint16
}

// appendSeedRequest appends a ListHostsRequest for seed peers.
func appendSeedRequest(p []byte) []byte {
	return append(p, fieldType<<fieldTypeShift|wireVarint, typeSuper)
}

// parseHosts reads a ListHostsResponse. Hosts that are no seed peers, or no proxies, are
// left out, as is what is beyond maxPeers.
func parseHosts(p []byte) ([]host, error) {
	var hosts []host
	err := fields(p, func(field uint64, _ uint64, text []byte) error {
		if field != fieldHosts || text == nil || len(hosts) == maxPeers {
			return nil
		}
		h, seed, err := parseHost(text)
		if err == nil && seed {
			hosts = append(hosts, h)
		}
		return err
	})
	return hosts, err
}

func parseHost(p []byte) (h host, seed bool, err error) {
	kind := uint64(typeNormal)
	err = fields(p, func(field, n uint64, text []byte) error {
		switch {
		case field == hostType && text == nil:
			kind = n
		case field == hostIP && text != nil:
			if ip, err := netip.ParseAddr(string(text)); err == nil {
				h.ip = ip.String()
			}
		case field == hostPort && text == nil && n <= math.MaxUint16:
			h.port = uint16(n)
		case field == hostProxyPort && text == nil && n <= math.MaxUint16:
			h.proxyPort = uint16(n)
		}
		return nil
	})
	return h, kind != typeNormal && h.ip != "" && h.port != 0 && h.proxyPort != 0, err
}

// isServing reads a HealthCheckResponse.
func isServing(p []byte) bool {
	serving := false
	err := fields(p, func(field, n uint64, text []byte) error {
		if field == fieldServing && text == nil {
			serving = n == statusServing
		}
		return nil
	})
	return err == nil && serving
}

// fields calls f for each field of a message: with its number, or with its bytes, which
// are not nil then.
func fields(p []byte, f func(field, n uint64, text []byte) error) error {
	for len(p) > 0 {
		tag, used := binary.Uvarint(p)
		if used <= 0 {
			return errMessage
		}
		p = p[used:]
		n, text, size, err := value(p, tag&(1<<fieldTypeShift-1))
		if err != nil {
			return err
		}
		p = p[size:]
		if err := f(tag>>fieldTypeShift, n, text); err != nil {
			return err
		}
	}
	return nil
}

// value reads the value of a wire type at the beginning of p, and says how many bytes it
// has.
func value(p []byte, wire uint64) (n uint64, text []byte, size int, err error) {
	switch wire {
	case wireVarint:
		n, size = binary.Uvarint(p)
		if size <= 0 {
			return 0, nil, 0, errMessage
		}
		return n, nil, size, nil
	case wireFixed64, wireFixed32:
		size = 8
		if wire == wireFixed32 {
			size = 4
		}
		if len(p) < size {
			return 0, nil, 0, errMessage
		}
		return 0, p[:size:size], size, nil
	case wireBytes:
		n, used := binary.Uvarint(p)
		if used <= 0 || n > uint64(len(p)-used) {
			return 0, nil, 0, errMessage
		}
		size = used + int(n)
		return 0, p[used:size:size], size, nil
	}
	return 0, nil, 0, errMessage
}
