package resolver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/secret"
	"rempart/internal/wire"
	"rempart/resolver/cookie"
)

const clientCookie = "0123456789abcdef"

// withCookies makes a resolver answer with cookies of a random secret.
func withCookies(c *Config) {
	secrets := cookie.Of(secret.Random())
	c.Cookies = func() *cookie.Secrets { return secrets }
}

// carry adds a COOKIE option to a query.
func carry(m *dns.Msg, cookie string) *dns.Msg {
	if m.IsEdns0() == nil {
		m.SetEdns0(1232, false)
	}
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	return m
}

// cookieOf returns the cookie of a message, "" if there is none.
func cookieOf(m *dns.Msg) string {
	if m == nil || m.IsEdns0() == nil {
		return ""
	}
	for _, o := range m.IsEdns0().Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			return c.Cookie
		}
	}
	return ""
}

// TestEveryAnswerCarriesTheClientsCookie checks answers of all kinds, over both paths, with their cookies and without.
func TestEveryAnswerCarriesTheClientsCookie(t *testing.T) {
	b := newBench(t, func(c *Config) {
		withCookies(c)
		c.Clients = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}, "evil.example")
	for _, tt := range []struct {
		name  string
		query func() *dns.Msg
		rcode int
	}{
		{"fetched", func() *dns.Msg { return query(t, "www.example.com", "A", "+edns") }, dns.RcodeSuccess},
		{"cached", func() *dns.Msg { return query(t, "www.example.com", "A", "+edns") }, dns.RcodeSuccess},
		{"blocked", func() *dns.Msg { return query(t, "www.evil.example", "A", "+edns") }, dns.RcodeSuccess},
		{"structured", func() *dns.Msg { return query(t, "www.evil.example", "A", "+sde") }, dns.RcodeNameError},
		{"special use", func() *dns.Msg { return query(t, "printer.local", "A", "+edns") }, dns.RcodeNameError},
		{"no recursion", func() *dns.Msg { return query(t, "www.example.com", "A", "+edns", "-rd") }, dns.RcodeRefused},
		{"ANY", func() *dns.Msg { return query(t, "www.example.com", "ANY", "+edns") }, dns.RcodeSuccess},
		{"transfer", func() *dns.Msg { return query(t, "example.com", "AXFR", "+edns") }, dns.RcodeRefused},
		{"opcode", func() *dns.Msg {
			m := query(t, "example.com", "A", "+edns")
			m.Opcode = dns.OpcodeUpdate
			return m
		}, dns.RcodeNotImplemented},
		{"EDNS version", func() *dns.Msg {
			m := query(t, "example.com", "A", "+edns")
			m.IsEdns0().SetVersion(1)
			return m
		}, dns.RcodeBadVers},
		{"signed", func() *dns.Msg {
			m := query(t, "example.com", "A", "+edns")
			return m.SetTsig("key.", dns.HmacSHA256, 300, 1)
		}, dns.RcodeNotAuth},
	} {
		signed := tt.name == "signed"
		pack := func(cookie string) []byte {
			m := tt.query()
			if cookie != "" {
				carry(m, cookie)
				if signed { // a TSIG is the last record
					m.Extra[0], m.Extra[1] = m.IsEdns0(), m.IsTsig()
				}
			}
			packed, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			return packed
		}
		first, _ := b.askPacked(pack(clientCookie))
		made := cookieOf(first)
		if first.Rcode != tt.rcode || len(made) != 48 || !strings.HasPrefix(made, clientCookie+"01000000") {
			t.Errorf("%s: rcode %d with cookie %q, want %d with a version 1 cookie", tt.name, first.Rcode, made, tt.rcode)
			continue
		}
		if again, _ := b.askPacked(pack(made)); cookieOf(again) != made {
			t.Errorf("%s: the valid cookie %q is answered with %q", tt.name, made, cookieOf(again))
		}
		wrong := made[:47] + map[bool]string{true: "1", false: "0"}[made[47] == '0']
		if again, _ := b.askPacked(pack(wrong)); again.Rcode != tt.rcode || cookieOf(again) != made && cookieOf(again)[:32] != made[:24]+cookieOf(again)[24:32] {
			t.Errorf("%s: a wrong cookie is answered with rcode %d and %q", tt.name, again.Rcode, cookieOf(again))
		}
		if without, _ := b.askPacked(pack("")); cookieOf(without) != "" {
			t.Errorf("%s: a query without a cookie gets the cookie %q", tt.name, cookieOf(without))
		}
	}
	outsider := b.askFrom(netip.MustParseAddr("192.0.2.99"), carry(query(t, "www.example.com", "A"), clientCookie))
	if outsider.Rcode != dns.RcodeRefused || cookieOf(outsider) == "" || cookieOf(outsider) == cookieOf(b.askFrom(netip.MustParseAddr("192.0.2.98"), carry(query(t, "www.example.com", "A"), clientCookie))) {
		t.Errorf("the cookie of an unauthorized client is %q, with rcode %d", cookieOf(outsider), outsider.Rcode)
	}
}

// TestHostileCookieOptions checks cookies of impossible lengths, several options and queries without a question.
func TestHostileCookieOptions(t *testing.T) {
	b := newBench(t, withCookies, "evil.example")
	for _, size := range []int{0, 1, 7, 9, 15, 41, 200} {
		for _, name := range []string{"www.evil.example", "www.example.com"} {
			a, _ := b.ask(carry(query(t, name, "A"), strings.Repeat("ab", size)))
			if a.Rcode != dns.RcodeFormatError || a.IsEdns0() == nil || cookieOf(a) != "" || len(a.Answer) > 0 {
				t.Errorf("a cookie of %d bytes: %v, want FORMERR without a cookie", size, a)
			}
		}
	}
	for _, size := range []int{8, 16, 23, 24, 25, 40} {
		if a, _ := b.ask(carry(query(t, "www.evil.example", "A"), strings.Repeat("ab", size))); a.Rcode != dns.RcodeSuccess || len(cookieOf(a)) != 48 {
			t.Errorf("a cookie of %d bytes: %v, want an answer with a cookie", size, a)
		}
	}
	if a, _ := b.ask(carry(carry(query(t, "www.evil.example", "A"), clientCookie), "ff")); a.Rcode != dns.RcodeSuccess || !strings.HasPrefix(cookieOf(a), clientCookie) {
		t.Errorf("a malformed second cookie: %v, want it to be ignored", a)
	}
	many := query(t, "www.evil.example", "A", "+edns")
	for range 1000 {
		carry(many, clientCookie)
	}
	if a, _ := b.ask(many); a.Rcode != dns.RcodeSuccess || len(a.IsEdns0().Option) != 3 {
		t.Errorf("a thousand cookies: %v, want one in the answer, with two extended errors", a)
	}
	alone := func(cookie string) *dns.Msg {
		m := query(t, "www.example.com", "A", "+edns")
		m.Question = nil
		return carry(m, cookie)
	}
	a, _ := b.ask(alone(clientCookie))
	if a.Rcode != dns.RcodeSuccess || len(a.Question) != 0 || len(cookieOf(a)) != 48 {
		t.Errorf("a cookie without a question: %v, want NOERROR with a cookie", a)
	}
	if again, _ := b.ask(alone(cookieOf(a))); again.Rcode != dns.RcodeSuccess || cookieOf(again) != cookieOf(a) {
		t.Errorf("a valid cookie without a question: %v", again)
	}
	if again, _ := b.ask(alone(clientCookie + strings.Repeat("0", 32))); again.Rcode != dns.RcodeBadCookie || len(cookieOf(again)) != 48 {
		t.Errorf("a wrong cookie without a question: %v, want BADCOOKIE", again)
	}
	off := newBench(t, nil)
	if a, _ := off.ask(alone(clientCookie)); a.Rcode != dns.RcodeFormatError {
		t.Errorf("without secrets, a cookie without a question: %v, want FORMERR", a)
	}
	if a, _ := off.ask(carry(query(t, "www.example.com", "A"), clientCookie)); a.Rcode != dns.RcodeSuccess || cookieOf(a) != "" {
		t.Errorf("without secrets, a cookie: %v, want an answer without", a)
	}
}

// TestCookiesAreNotShared checks that the answer in the cache holds no cookie, and that no cookie is sent to the upstream.
func TestCookiesAreNotShared(t *testing.T) {
	b := newBench(t, withCookies)
	b.ask(carry(query(t, "www.example.com", "A", "+edns"), clientCookie))
	if a, fast := b.ask(query(t, "www.example.com", "A", "+edns")); !fast || len(a.IsEdns0().Option) != 0 {
		t.Errorf("the cached answer for a client without a cookie is %v, fast %v", a, fast)
	}
	const other = "fedcba9876543210"
	if a, fast := b.ask(carry(query(t, "www.example.com", "A", "+edns"), other)); !fast || !strings.HasPrefix(cookieOf(a), other) {
		t.Errorf("the cached answer for another client has the cookie %q, fast %v", cookieOf(a), fast)
	}
}

// TestLargeAnswerLeavesRoomForCookie checks that a cached answer that fits only without the cookie is truncated and carries the cookie.
func TestLargeAnswerLeavesRoomForCookie(t *testing.T) {
	b := newBench(t, withCookies)
	text := strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 4))
	const question, record = 17 + 4, 17 + 10 // the name of the record is not compressed
	fits := wire.UDPLimit - wire.HeaderLen - question - record - 4*251 - wire.OPTLen
	b.up.set(records(`@ 300 IN TXT ` + text + ` "` + strings.Repeat("y", fits-1) + `"`))
	for range 2 {
		if a, _ := b.ask(query(t, "www.example.com", "TXT", "+edns")); a.Truncated || len(a.Answer) != 1 {
			t.Fatalf("without a cookie: %d answers, truncated %v", len(a.Answer), a.Truncated)
		}
		if a, _ := b.ask(carry(query(t, "www.example.com", "TXT", "+edns"), clientCookie)); !a.Truncated || len(cookieOf(a)) != 48 {
			t.Errorf("with a cookie: truncated %v, cookie %q", a.Truncated, cookieOf(a))
		}
	}
}

// TestFastWithCookiesDoesNotAllocate checks cached and blocked answers with cookies of every state.
func TestFastWithCookiesDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := newBench(t, withCookies, "evil.example")
	a, _ := b.ask(carry(query(t, "www.example.com", "A", "+edns"), clientCookie))
	for state, cookie := range map[wire.Cookie]string{wire.ClientCookie: clientCookie, wire.WrongCookie: cookieOf(a)[:40] + "00000000", wire.ValidCookie: cookieOf(a), wire.MalformedCookie: "ff"} {
		batch := fastBatch(t, carry(query(t, "www.example.com", "A", "+edns"), cookie), carry(query(t, "www.evil.example", "A", "+sde"), cookie))
		if n := testing.AllocsPerRun(100, func() { b.w.Fast(batch) }); n != 0 {
			t.Errorf("%v: %v allocations, want none", state, n)
		}
		for i := range batch {
			if batch[i].Outcome != wire.Answered || batch[i].Cookie != state {
				t.Errorf("%v: outcome %d, cookie %v", state, batch[i].Outcome, batch[i].Cookie)
			}
		}
	}
	shed := fastBatch(t, carry(query(t, "new.example.com", "A", "+edns"), cookieOf(a)))
	b.w.Fast(shed)
	b.r.Shed(&shed[0])
	var m dns.Msg
	if err := m.Unpack(shed[0].Out); err != nil || cookieOf(&m) != cookieOf(a) {
		t.Errorf("a query without a place: %v (%v), want the cookie %s", &m, err, cookieOf(a))
	}
}
