package listen

import (
	"net/netip"
	"testing"

	"rempart/resolver/listen/fake"
)

// TestQueryFromOwnSocketIsDropped checks that a query from the server's own socket is dropped.
func TestQueryFromOwnSocketIsDropped(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		at := netip.MustParseAddrPort(addr)
		to := netip.MustParseAddr("127.0.0.1")
		if at.Addr().Is6() {
			ipv6(t)
			to = netip.IPv6Loopback()
		}
		s, err := New(Config{Addrs: []netip.AddrPort{at}, Workers: 1, NewHandler: func() Handler { return &fake.Handler{} }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		w := s.workers[0]
		if _, err := w.conn.WriteToUDPAddrPort(fake.Query(t, 1, "a.example"), netip.AddrPortFrom(to, s.Addrs()[0].Port())); err != nil {
			t.Fatal(err)
		}
		if n, err := w.receiveBatch(); n != 1 || err != nil || w.queries[0].Packet != nil {
			t.Errorf("%s: received %d packets (%v), the first query has %d bytes; want one packet and no query", addr, n, err, len(w.queries[0].Packet))
		}
	}
}
