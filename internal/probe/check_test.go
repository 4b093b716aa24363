package probe

import (
	"net/netip"
	"testing"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

func TestNamesOfChecks(t *testing.T) {
	const zone = "probe.rempart.internal"
	for c := range Checks {
		if got, ok := Of(dnstest.WireName(t, c.Host(NewNonce(), zone)), dnstest.WireName(t, zone)); !ok || got != c {
			t.Errorf("%s: %v, %v", c, got, ok)
		}
	}
	for _, other := range []string{zone, "any." + zone, "a.b.any." + zone, "a.unknown." + zone, "a.any.other.example", "any", "a.any.xprobe.rempart.internal", "x.ask." + zone} {
		if c, ok := Of(dnstest.WireName(t, other), dnstest.WireName(t, zone)); ok {
			t.Errorf("%s is taken for the check %s", other, c)
		}
	}
	name, apex := dnstest.WireName(t, "a.any."+zone), dnstest.WireName(t, zone)
	if n := testing.AllocsPerRun(100, func() { Of(name, apex) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestChecksOfClients(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		query wire.Query
		want  []Check
	}{
		{wire.Query{Client: v4, Transport: wire.UDP}, []Check{Protected, Plain, IPv4}},
		{wire.Query{Client: v6, Transport: wire.TCP}, []Check{Protected, Plain, IPv6}},
		{wire.Query{Client: v4, Transport: wire.TLS}, []Check{Protected, TLS, IPv4}},
		{wire.Query{Client: v4, Transport: wire.HTTPS}, []Check{Protected, HTTPS, IPv4}},
		{wire.Query{Client: v6, Transport: wire.QUIC}, []Check{Protected, QUIC, IPv6}},
	} {
		want := map[Check]bool{}
		for _, c := range tt.want {
			want[c] = true
		}
		for c := range Checks {
			if got := c.Applies(&tt.query); got != want[c] {
				t.Errorf("%s, %s: %s applies: %v", tt.query.Client, tt.query.Transport, c, got)
			}
		}
	}
}

func TestPublicZones(t *testing.T) {
	for zone, want := range map[string]bool{"probe.rempart.internal": false, "internal": false, "probe.isp.fr": true, "notinternal.fr": true} {
		if got := IsPublic(zone); got != want {
			t.Errorf("%s: %v", zone, got)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add([]byte("\x01a\x03any\x05probe\x00"), []byte("\x05probe\x00"))
	f.Fuzz(func(t *testing.T, name, zone []byte) {
		if wire.NameLen(name) != len(name) || wire.NameLen(zone) != len(zone) || len(name) == 0 || len(zone) == 0 {
			return
		}
		if c, ok := Of(name, zone); ok && c >= Checks {
			t.Errorf("check %d", c)
		}
	})
}
