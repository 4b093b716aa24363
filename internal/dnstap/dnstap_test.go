package dnstap

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// TestClientsAreHidden checks what is sent of clients' addresses, and that pseudonyms last for a day.
func TestClientsAreHidden(t *testing.T) {
	now := time.Now()
	v4, v6 := netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8:1:2::77")
	cut := newHider(Cut)
	for client, want := range map[netip.Addr]string{v4: "192.0.2.0", v6: "2001:db8:1::"} {
		if got, ok := cut.address(client, now); !ok || got.String() != want {
			t.Errorf("cut: %v becomes %v, want %s", client, got, want)
		}
	}
	if got, ok := newHider(None).address(v4, now); ok {
		t.Errorf("none: %v is sent", got)
	}
	keyed := newHider(Keyed)
	first, ok := keyed.address(v4, now)
	same, _ := keyed.address(v4, now.Add(23*time.Hour))
	other, _ := keyed.address(v6, now)
	later, _ := keyed.address(v4, now.Add(25*time.Hour))
	elsewhere, _ := newHider(Keyed).address(v4, now)
	if !ok || first != same || first == other || first == later || first == elsewhere || first.As16()[0] != 0xfd {
		t.Errorf("keyed: %v, a day later %v, another client %v, with another key %v", first, later, other, elsewhere)
	}
}

// TestCookieIsRemoved checks that an answer without its cookie is a sound message.
func TestCookieIsRemoved(t *testing.T) {
	for _, cookie := range []bool{false, true} {
		m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
		m.SetEdns0(1232, false)
		if cookie {
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
		}
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		q := &wire.Query{Packet: packed}
		if q.Parse(0) != wire.Common {
			t.Fatal("the query is not common")
		}
		q.Begin(wire.Success)
		q.AddAddress(60, netip.MustParseAddr("192.0.2.1"))
		q.Finish(wire.Success)
		got := new(dns.Msg)
		if err := got.Unpack(withoutCookie(q)); err != nil || len(got.Answer) != 1 {
			t.Fatalf("%v\n%v", err, got)
		}
		if (got.IsEdns0() == nil) != cookie {
			t.Errorf("cookie %v: the OPT is %v", cookie, got.IsEdns0())
		}
	}
}
