package certificates

import (
	"crypto/x509"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rempart/internal/wire"
	"rempart/resolver"
)

func TestEndpointsHaveOnePerPort(t *testing.T) {
	four, six, one := netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("192.0.2.1")
	got := Endpoints(wire.HTTPS, []netip.AddrPort{netip.AddrPortFrom(four, 443), netip.AddrPortFrom(one, 8443), netip.AddrPortFrom(six, 443)})
	want := []resolver.Endpoint{
		{Transport: wire.HTTPS, ALPN: []string{"h2", "h3"}, Port: 443, Path: "/dns-query{?dns}", Addrs: []netip.Addr{four, six}},
		{Transport: wire.HTTPS, ALPN: []string{"h2", "h3"}, Port: 8443, Path: "/dns-query{?dns}", Addrs: []netip.Addr{one}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if got := Endpoints(wire.TLS, nil); got != nil {
		t.Errorf("without addresses: %v", got)
	}
}

func TestDesignatedIsTheFirstCertificate(t *testing.T) {
	now := time.Now()
	endpoints := Endpoints(wire.TLS, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:853")})
	leaf := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{
			DNSNames: []string{"*.dns.example", "DNS.example", "other.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		}
		if change != nil {
			change(c)
		}
		return c
	}
	d := Designated(endpoints, []*x509.Certificate{leaf(nil), leaf(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.2")} })}, now)
	if d == nil || string(d.Name) != "\x03dns\x07example\x00" || len(d.Endpoints) != 1 || len(d.Covered) != 2 || d.Covered[0] != netip.MustParseAddr("192.0.2.1") {
		t.Fatalf("%+v", d)
	}
	for name, d := range map[string]*resolver.Designated{
		"no endpoint":    Designated(nil, []*x509.Certificate{leaf(nil)}, now),
		"no certificate": Designated(endpoints, nil, now),
		"expired":        Designated(endpoints, []*x509.Certificate{leaf(nil)}, now.Add(2*time.Hour)),
		"wildcards only": Designated(endpoints, []*x509.Certificate{leaf(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[:1] })}, now),
		"addresses only": Designated(endpoints, []*x509.Certificate{leaf(func(c *x509.Certificate) { c.DNSNames = nil })}, now),
		"no valid name":  Designated(endpoints, []*x509.Certificate{leaf(func(c *x509.Certificate) { c.DNSNames = []string{"a..b"} })}, now),
	} {
		if d != nil {
			t.Errorf("%s: %+v, want none", name, d)
		}
	}
}
