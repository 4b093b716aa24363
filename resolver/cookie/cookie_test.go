package cookie

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"rempart/internal/secret"
	"rempart/internal/wire"
)

// ask returns a query with a cookie in hexadecimal, after s has served it, and the cookie of its answer.
func ask(t testing.TB, s *Secrets, cookie, client string, now int64) (state wire.Cookie, answer string) {
	t.Helper()
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Packet: packet, Client: netip.MustParseAddr(client)}
	if shape := q.Parse(0); shape != wire.Common {
		t.Fatalf("cookie %s: shape %d", cookie, shape)
	}
	s.Serve(q, now)
	q.Fail(wire.Success)
	var a dns.Msg
	if err := a.Unpack(q.Out); err != nil || len(a.IsEdns0().Option) != 1 {
		t.Fatalf("the answer is %v (%v), want one with a cookie", &a, err)
	}
	return q.Cookie, a.IsEdns0().Option[0].(*dns.EDNS0_COOKIE).Cookie
}

func parse(t testing.TB, lines ...string) *Secrets {
	t.Helper()
	s, err := Parse([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVectors checks the test vectors of RFC 9018 appendix A.
func TestVectors(t *testing.T) {
	const secret, before, after = "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962"
	for _, tt := range []struct {
		name, client string
		secrets      []string
		now          int64
		sent, want   string
		state        wire.Cookie
	}{
		{"A.1", "198.51.100.100", []string{secret}, 1559731985, "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", wire.ClientCookie},
		{"A.2", "198.51.100.100", []string{secret}, 1559734385, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", wire.ValidCookie},
		{"A.3", "203.0.113.203", []string{secret}, 1559734700, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e", wire.WrongCookie},
		{"A.3, when it was made", "203.0.113.203", []string{secret}, 1559727985, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", wire.ValidCookie},
		{"A.4", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{after, before}, 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c609a6bb79d16625507a", wire.ValidCookie},
		{"A.4, before the roll-over", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{before, after}, 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", wire.ValidCookie},
		{"A.4, without the old secret", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{after}, 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c609a6bb79d16625507a", wire.WrongCookie},
	} {
		if state, got := ask(t, parse(t, tt.secrets...), tt.sent, tt.client, tt.now); state != tt.state || got != tt.want {
			t.Errorf("%s: %v, %s; want %v, %s", tt.name, state, got, tt.state, tt.want)
		}
	}
}

// TestValidity checks the ages at which a cookie is valid and at which it is replaced, also where the 32-bit time begins again, and that no part of it can be changed.
func TestValidity(t *testing.T) {
	s := Of(secret.Random())
	for _, made := range []int64{1559731985, 1<<32 - 1000, 1<<32 + 5} {
		_, cookie := ask(t, s, "0102030405060708", "192.0.2.1", made)
		for age, want := range map[int64]struct {
			state wire.Cookie
			kept  bool
		}{
			-301: {wire.WrongCookie, false}, -300: {wire.ValidCookie, true}, 0: {wire.ValidCookie, true}, 1800: {wire.ValidCookie, true},
			1801: {wire.ValidCookie, false}, 3600: {wire.ValidCookie, false}, 3601: {wire.WrongCookie, false}, 1 << 31: {wire.WrongCookie, false},
		} {
			if state, got := ask(t, s, cookie, "192.0.2.1", made+age); state != want.state || (got == cookie) != want.kept {
				t.Errorf("a cookie of %d is %v after %d s, kept %v; want %v, %v", made, state, age, got == cookie, want.state, want.kept)
			}
		}
		for what, changed := range map[string][2]string{
			"another client": {cookie, "192.0.2.2"}, "the client as IPv6": {cookie, "2001:db8::1"}, "another client cookie": {"11" + cookie[2:], "192.0.2.1"},
			"another version": {cookie[:16] + "02" + cookie[18:], "192.0.2.1"}, "reserved bytes": {cookie[:18] + "000001" + cookie[24:], "192.0.2.1"},
			"another time": {cookie[:30] + "ff" + cookie[32:], "192.0.2.1"}, "another hash": {cookie[:46] + "zz", "192.0.2.1"},
			"a shorter one": {cookie[:46], "192.0.2.1"}, "a longer one": {cookie + "00", "192.0.2.1"}, "the longest one": {cookie + strings.Repeat("00", 16), "192.0.2.1"},
		} {
			sent := strings.Replace(changed[0], "zz", map[bool]string{true: "00", false: "01"}[cookie[46:] != "00"], 1)
			if state, _ := ask(t, s, sent, changed[1], made); state != wire.WrongCookie {
				t.Errorf("%s: the cookie is %v, want it to be wrong", what, state)
			}
		}
	}
}

// TestNobodyGuesses checks random cookies.
func TestNobodyGuesses(t *testing.T) {
	s := parse(t, "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715")
	rapid.Check(t, func(r *rapid.T) {
		cookie := rapid.SliceOfN(rapid.Byte(), 16, 40).Draw(r, "cookie")
		if len(cookie) > 12 && rapid.Bool().Draw(r, "plausible") {
			copy(cookie[8:], []byte{1, 0, 0, 0, 0x5c, 0xf7, 0x9f, 0x11})
		}
		if state, _ := ask(t, s, hex.EncodeToString(cookie), "192.0.2.1", 0x5cf79f11); state != wire.WrongCookie {
			r.Fatalf("the cookie %x is %v", cookie, state)
		}
	})
}

func TestParse(t *testing.T) {
	const a, b = "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715"
	if got := parse(t, "# made on 2026-12-01", "", "  "+strings.ToUpper(a)+"\r", b); len(got.keys) != 2 || got.keys[0] != parse(t, a).keys[0] {
		t.Errorf("read %d secrets", len(got.keys))
	}
	if _, err := Parse([]byte(a + "\nx")); err == nil {
		t.Error("a line without a secret was accepted")
	}
	if one, other := Of(secret.Random()), Of(secret.Random()); one.keys[0] == other.keys[0] {
		t.Error("two random secrets are equal")
	}
}

func TestNothingIsAllocated(t *testing.T) {
	s := parse(t, "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715")
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: strings.Repeat("01", 24)}}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Packet: packet, Client: netip.MustParseAddr("2001:db8::1"), Out: make([]byte, 0, 512)}
	if n := testing.AllocsPerRun(100, func() {
		q.Parse(0)
		s.Serve(q, 1<<24|1)
		q.Fail(wire.Success)
	}); n != 0 {
		t.Errorf("%v allocations per query, want none", n)
	}
}

// BenchmarkServe measures the check of a valid cookie, and the check of a wrong one with the making of a new one.
func BenchmarkServe(b *testing.B) {
	s := Of(secret.Random())
	_, valid := ask(b, s, "0102030405060708", "192.0.2.1", 1)
	for name, cookie := range map[string]string{"valid": valid, "wrong": valid[:46] + "00", "client": valid[:16]} {
		m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
		packet, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			q := &wire.Query{Packet: packet, Client: netip.MustParseAddr("192.0.2.1")}
			q.Parse(0)
			parsed := q.Cookie
			for b.Loop() {
				q.Cookie = parsed
				s.Serve(q, 1)
			}
		})
	}
}
