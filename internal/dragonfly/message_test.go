package dragonfly

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
)

// golden is a ListHostsResponse in the encoding of protobuf's Go library: a seed peer, a
// normal peer and a strong seed peer with an IPv6 address, each with fields that are
// skipped (texts, a message, a boolean).
const golden = "" +
	"0a380a047365656410011a0168220831302e302e302e3128e8fb0330a01f3a056c696e7578620b08401900000000000029409001019801e9fb03" +
	"0a380a066e6f726d616c1a0168220831302e302e302e3228e8fb0330a01f3a056c696e7578620b08401900000000000029409001019801e9fb03" +
	"0a320a0373697810031a01682207666430303a3a31280130a01f3a056c696e7578620b0840190000000000002940900101980102"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMessagesAreThoseOfTheSchema(t *testing.T) {
	if got := appendSeedRequest(nil); !bytes.Equal(got, []byte{0x08, 0x01}) {
		t.Errorf("request %x", got)
	}
	got, err := parseHosts(unhex(t, golden))
	want := []host{{"10.0.0.1", 65000, 65001}, {"fd00::1", 1, 2}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestMalformedAnswersAreErrors(t *testing.T) {
	for name, text := range map[string]string{
		"tag cut":             "8a",
		"length beyond":       "0a05" + "0a",
		"length of 2^64":      "0affffffffffffffffff01",
		"fixed field cut":     "090102",
		"group":               "0b",
		"host with a bad tag": "0a01" + "ff",
	} {
		if hosts, err := parseHosts(unhex(t, text)); err == nil {
			t.Errorf("%s: got %+v", name, hosts)
		}
	}
	for name, text := range map[string]string{"cut": "00000000", "compressed": "0100000000", "longer": "000000000101ff", "shorter": "0000000003ff"} {
		if p, err := unframe(unhex(t, text)); err == nil {
			t.Errorf("%s: got %x", name, p)
		}
	}
}

// FuzzMessage: any answer is refused or gives a bounded number of usable hosts.
func FuzzMessage(f *testing.F) {
	f.Add(unhex(f, golden))
	f.Add([]byte{0x08, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		_, _ = unframe(p)
		_ = isServing(p)
		hosts, err := parseHosts(p)
		if err != nil {
			return
		}
		for _, h := range hosts {
			if h.ip == "" || h.port == 0 || h.proxyPort == 0 || len(hosts) > maxPeers {
				t.Fatalf("%d hosts, %+v", len(hosts), h)
			}
		}
	})
}
