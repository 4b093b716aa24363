package wire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"
)

// cookie returns an option with a cookie of that many bytes: 1, 2, 3 and so on.
func cookie(size int) dns.EDNS0 {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i + 1)
	}
	return &dns.EDNS0_LOCAL{Code: OptionCookie, Data: value}
}

// TestParseCookie checks which cookies are read, which are malformed, and that only the first option of a query is read.
func TestParseCookie(t *testing.T) {
	other := &dns.EDNS0_LOCAL{Code: 100, Data: []byte{1, 2, 3}}
	tsig := func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }
	for _, tt := range []struct {
		name    string
		options []dns.EDNS0
		build   func(*dns.Msg)
		shape   Shape
		want    Cookie
		server  int // length of the server cookie
	}{
		{"none", []dns.EDNS0{other}, nil, Common, NoCookie, 0},
		{"client", []dns.EDNS0{cookie(8)}, nil, Common, ClientCookie, 0},
		{"client and server", []dns.EDNS0{other, cookie(24), other}, nil, Common, UncheckedCookie, 16},
		{"shortest server cookie", []dns.EDNS0{cookie(16)}, nil, Common, UncheckedCookie, 8},
		{"longest server cookie", []dns.EDNS0{cookie(40)}, nil, Common, UncheckedCookie, 32},
		{"empty", []dns.EDNS0{cookie(0)}, nil, BadFormat, MalformedCookie, 0},
		{"client too short", []dns.EDNS0{cookie(7)}, nil, BadFormat, MalformedCookie, 0},
		{"server too short", []dns.EDNS0{cookie(9)}, nil, BadFormat, MalformedCookie, 0},
		{"server almost long enough", []dns.EDNS0{cookie(15)}, nil, BadFormat, MalformedCookie, 0},
		{"server too long", []dns.EDNS0{cookie(41)}, nil, BadFormat, MalformedCookie, 0},
		{"second one malformed", []dns.EDNS0{cookie(24), cookie(3)}, nil, Common, UncheckedCookie, 16},
		{"second one sound", []dns.EDNS0{cookie(3), cookie(24)}, nil, BadFormat, MalformedCookie, 0},
		{"before a TSIG", []dns.EDNS0{cookie(24)}, tsig, Uncommon, UncheckedCookie, 16},
		{"no question", []dns.EDNS0{other, cookie(8)}, func(m *dns.Msg) { m.Question = nil }, CookieOnly, ClientCookie, 0},
		{"no question, malformed", []dns.EDNS0{cookie(9)}, func(m *dns.Msg) { m.Question = nil }, BadFormat, MalformedCookie, 0},
		{"two questions", []dns.EDNS0{cookie(8)}, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, BadFormat, ClientCookie, 0},
		{"another opcode", []dns.EDNS0{cookie(8)}, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, BadOpcode, ClientCookie, 0},
	} {
		q := Query{Packet: packed(t, func(m *dns.Msg) {
			m.Extra = []dns.RR{opt(true, tt.options...)}
			if tt.build != nil {
				tt.build(m)
			}
		})}
		shape := q.Parse(signal)
		client, server := q.ReadCookies()
		if shape != tt.shape || q.Cookie != tt.want || len(server) != tt.server {
			t.Errorf("%s: shape %d, cookie %v, server cookie of %d bytes; want %d, %v, %d", tt.name, shape, q.Cookie, len(server), tt.shape, tt.want, tt.server)
		}
		if want := cookie(8 + tt.server).(*dns.EDNS0_LOCAL).Data; tt.want > MalformedCookie && !bytes.Equal(append(client[:8:8], server...), want) {
			t.Errorf("%s: cookies %x %x", tt.name, client, server)
		}
		q.Packet = packed(t, nil)
		if q.Parse(signal); q.Cookie != NoCookie {
			t.Errorf("%s: the next query of the same buffer has cookie %v", tt.name, q.Cookie)
		}
	}
}

// TestAnswerHasCookie checks that the answer repeats the client cookie, has the server cookie, and fits.
func TestAnswerHasCookie(t *testing.T) {
	q := Query{Packet: packed(t, func(m *dns.Msg) { m.Extra = []dns.RR{opt(true, cookie(24))} })}
	q.Parse(signal)
	option := func() string {
		t.Helper()
		var m dns.Msg
		if err := m.Unpack(q.Out); err != nil {
			t.Fatal(err)
		}
		for _, o := range m.IsEdns0().Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
		return ""
	}
	if q.Fail(Success); option() != "" {
		t.Errorf("the answer has the cookie %q although nobody made one", option())
	}
	size := len(q.Out)
	q.ServeCookie(ValidCookie, ServerCookie{15: 0xff})
	want := hex.EncodeToString([]byte{1, 2, 3, 4, 5, 6, 7, 8, 15 + 8: 0xff})
	for name, fail := range map[string]func(){
		"NOERROR": func() { q.Fail(Success) }, "BADCOOKIE": func() { q.Fail(BadCookie) }, "with errors": func() { q.Fail(ServFail, EDE{Code: EDEBlocked, Text: "x"}) }, "truncated": q.Shorten,
	} {
		if fail(); option() != want {
			t.Errorf("%s: the cookie is %q, want %q", name, option(), want)
		}
	}
	if q.Fail(Success); len(q.Out) != size+cookieOptionLen || q.OPTSize() != OPTLen+cookieOptionLen {
		t.Errorf("an answer of %d bytes, want %d more than %d", len(q.Out), cookieOptionLen, size)
	}
	q.Begin(Success)
	q.Out = append(q.Out, make([]byte, UDPLimit-len(q.Out)-OPTLen-cookieOptionLen+1)...)
	if q.Finish(Success); len(q.Out) > UDPLimit || Flags(q.Out)&FlagTC == 0 || option() != want {
		t.Errorf("an answer that has no room for the cookie has %d bytes", len(q.Out))
	}
}
