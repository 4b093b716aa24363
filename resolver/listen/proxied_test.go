package listen

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"rempart/resolver/listen/fake"
)

// TestProxiedDatagram checks queries over UDP with a header of the PROXY protocol, and that others are dropped.
func TestProxiedDatagram(t *testing.T) {
	s, _ := serve(t, &fake.Handler{}, Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	c := fake.Dial(t, "udp", addrOf(s))
	local := netip.MustParseAddrPort("198.51.100.1:53")
	for _, packet := range [][]byte{
		fake.Query(t, 1, "a.example"), []byte(fake.ProxySignature), append(fake.ProxyHeader(netip.MustParseAddrPort("192.0.2.7:19"), local, ""), fake.Query(t, 2, "a.example")...),
		append(fake.ProxyHeader(netip.MustParseAddrPort("192.0.2.7:1234"), local, "\x04\x00\x01\x00"), fake.Query(t, 3, "slow.example")...),
	} {
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	if m := fake.Unpack(t, readDatagram(t, c)); m.Id != 3 || m.Answer[0].(*dns.A).A.String() != "192.0.2.7" {
		t.Errorf("unexpected answer: %v", m)
	}
	if _, err := c.Write(append(fake.ProxyHeader(netip.AddrPort{}, netip.AddrPort{}, ""), fake.Query(t, 4, "a.example")...)); err != nil {
		t.Fatal(err)
	}
	if m := fake.Unpack(t, readDatagram(t, c)); m.Id != 4 || m.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
		t.Errorf("unexpected answer to the proxy itself: %v", m)
	}
	if n := metric(t, s, "rempart_proxy_failures_total"); n != 2 {
		t.Errorf("%v failures are counted, want 2", n)
	}
}
