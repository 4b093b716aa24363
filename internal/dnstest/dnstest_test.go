package dnstest

import (
	"crypto/tls"
	"testing"

	"github.com/miekg/dns"
)

func ask(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }

func TestUpstreamAnswersOverEveryTransport(t *testing.T) {
	u := NewUpstream(t, nil)
	for _, network := range []string{"udp", "tcp"} {
		got := Exchange(t, network, u.Addr.String(), ask("wWw.example."))
		if len(got.Answer) != 1 || got.Answer[0].Header().Name != "wWw.example." {
			t.Errorf("%s: answer %v", network, got.Answer)
		}
	}
	c := &dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{RootCAs: u.Roots, ServerName: TLSName}}
	if _, _, err := c.Exchange(ask("example."), u.TLSAddr.String()); err != nil {
		t.Errorf("tls: %v", err)
	}
	if got := u.Queries(); got != 3 {
		t.Errorf("Queries() = %d, want 3", got)
	}
	if got := u.Queries("udp"); got != 1 {
		t.Errorf("Queries(udp) = %d, want 1", got)
	}
	if last := u.Last(); last.Network != "tls" {
		t.Errorf("the last query came over %s", last.Network)
	}
	if got := u.Streams(); got != 2 {
		t.Errorf("Streams() = %d, want 2", got)
	}
}

func TestHandlers(t *testing.T) {
	u := NewUpstream(t, nil)
	edns := ask("Example.")
	edns.SetEdns0(1232, false)
	cookie := edns.Copy()
	SetCookie(cookie, "0123456789abcdef")
	const server = "fedcba9876543210"
	serverCookie := func() string { return server }
	known := edns.Copy()
	SetCookie(known, "0123456789abcdef"+server)
	echoed := func(m *dns.Msg, rcode int) bool {
		return m.Rcode == rcode && m.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie == "0123456789abcdef"+server
	}
	tests := []struct {
		name    string
		handler Handler
		query   *dns.Msg
		want    func(*dns.Msg) bool
	}{
		{"rcode", Rcode(dns.RcodeServerFailure, 6), edns, func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && m.IsEdns0().Option[0].(*dns.EDNS0_EDE).InfoCode == 6
		}},
		{"truncate", Truncate(Drop()), edns, func(m *dns.Msg) bool { return m.Truncated }},
		{"no EDNS, query with EDNS", NoEDNS(Drop()), edns, func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil
		}},
		{"no EDNS, query without EDNS", NoEDNS(Answer()), ask("example."), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeSuccess
		}},
		{"cookie", EchoCookie(serverCookie, Answer()), cookie, func(m *dns.Msg) bool { return echoed(m, dns.RcodeSuccess) }},
		{"cookie, query without", EchoCookie(serverCookie, Answer()), edns, func(m *dns.Msg) bool { return len(m.IsEdns0().Option) == 0 }},
		{"cookie refused", RequireCookie(serverCookie, Answer()), cookie, func(m *dns.Msg) bool { return echoed(m, dns.RcodeBadCookie) }},
		{"cookie known", RequireCookie(serverCookie, Answer()), known, func(m *dns.Msg) bool { return echoed(m, dns.RcodeSuccess) }},
		{"lower case", LowerCase(Answer()), edns, func(m *dns.Msg) bool { return m.Question[0].Name == "example." }},
		{"altered twice", Alter(Alter(Answer(), func(m *dns.Msg) { m.Rcode++ }), func(m *dns.Msg) { m.Rcode *= 3 }),
			edns, func(m *dns.Msg) bool { return m.Rcode == 3 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u.Handle(tt.handler)
			if got := Exchange(t, "udp", u.Addr.String(), tt.query); !tt.want(got) {
				t.Errorf("answer:\n%v", got)
			}
		})
	}
}

func TestCloseEndsTheConnection(t *testing.T) {
	u := NewUpstream(t, Close())
	packed, err := ask("example.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ExchangePacked("tcp", u.Addr.String(), packed); err == nil {
		t.Error("an answer came over a closed connection")
	}
}
