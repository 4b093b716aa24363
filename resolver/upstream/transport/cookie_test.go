package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// inUse returns cookies with a client cookie that is in use, without a server cookie.
func inUse() *cookies {
	c := new(cookies)
	c.current.Store(newCookie(loopback))
	return c
}

// withCookie gives an answer an OPT with a cookie.
func withCookie(value ...[]byte) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		dnstest.SetCookie(m, hex.EncodeToString(bytes.Join(value, nil)))
	}
}

// TestAnswersAreJudgedByTheirCookie checks which answers to a query with a cookie are accepted, and which server cookie the next query carries.
func TestAnswersAreJudgedByTheirCookie(t *testing.T) {
	q := Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}
	c := inUse()
	value := c.use(loopback, time.Now())
	sent := AppendQuery(nil, &q, 77, Form{EDNS: true, Cookie: value})
	copy(sent[wire.HeaderLen:], "\x03wWw\x07ExamplE\x03oRg")
	client := bytes.Clone(value)
	wrong := append(bytes.Clone(client[:7]), client[7]^1)
	short, long := []byte("server01"), bytes.Repeat([]byte("s"), 32)
	both := func(all ...func(*dns.Msg)) func(*dns.Msg) {
		return func(m *dns.Msg) {
			for _, f := range all {
				f(m)
			}
		}
	}
	lower := func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }
	tests := []struct {
		name   string
		change func(*dns.Msg)
		want   Match
		err    error
		stored []byte
	}{
		{"no OPT", nil, Foreign, errCookieless, nil},
		{"no cookie", func(m *dns.Msg) { m.SetEdns0(1232, false) }, Foreign, errCookieless, nil},
		{"another client cookie", withCookie(wrong, short), Foreign, errCookieless, nil},
		{"no server cookie", withCookie(client), Foreign, errCookieless, nil},
		{"a server cookie of 7 bytes", withCookie(client, short[1:]), Foreign, errCookieless, nil},
		{"a server cookie of 8 bytes", withCookie(client, short), exact, nil, short},
		{"a server cookie of 32 bytes", withCookie(client, long), exact, nil, long},
		{"a server cookie of 33 bytes", withCookie(client, long, short[:1]), Foreign, errCookieless, nil},
		{"two cookies, the second one wrong", both(withCookie(client, short), func(m *dns.Msg) { dnstest.SetCookie(m, hex.EncodeToString(wrong)) }), exact, nil, short},
		{"two cookies, the first one wrong", both(withCookie(wrong, short), func(m *dns.Msg) { dnstest.SetCookie(m, hex.EncodeToString(client)) }), Foreign, errCookieless, nil},
		{"BADCOOKIE", both(withCookie(client, long), func(m *dns.Msg) { m.Rcode = wire.BadCookie }), exact, nil, long},
		{"BADCOOKIE without a cookie", func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = wire.BadCookie }, Foreign, errCookieless, nil},
		{"truncated", both(withCookie(client, short), func(m *dns.Msg) { m.Truncated = true }), exact, errTruncated, short},
		{"truncated, no cookie", func(m *dns.Msg) { m.Truncated = true }, Foreign, errCookieless, nil},
		{"lower case", both(withCookie(client, short), lower), Foreign, errRecased, short},
		{"lower case, no cookie", lower, Foreign, errCookieless, nil},
		{"an error without a question", func(m *dns.Msg) { m.Question, m.Rcode = nil, 2 }, Foreign, errCookieless, nil},
		{"an error without a question, with the cookie", both(withCookie(client, short), func(m *dns.Msg) { m.Question, m.Rcode = nil, 2 }), Bare, nil, short},
		{"no question", both(withCookie(client, short), func(m *dns.Msg) { m.Question = nil }), Foreign, errQuestionless, nil},
		{"another ID", both(withCookie(client, short), func(m *dns.Msg) { m.Id++ }), Foreign, nil, nil},
	}
	for _, tt := range tests {
		c.current.Store(&cookie{text: [maxCookieLen]byte(append(bytes.Clone(client), make([]byte, 32)...)), size: clientCookieLen, local: loopback, born: time.Now()})
		m, err := c.judge(answerTo(t, sent, tt.change), sent, true, false)
		if m != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %d, %v; want %d, %v", tt.name, m, err, tt.want, tt.err)
		}
		if next := c.use(loopback, time.Now()); !bytes.Equal(next, append(bytes.Clone(client), tt.stored...)) {
			t.Errorf("%s: the next query carries %q, want %q and the server cookie %q", tt.name, next, client, tt.stored)
		}
	}
	plain := AppendQuery(nil, &q, 77, Form{EDNS: true})
	if m, err := c.judge(answerTo(t, plain, nil), plain, false, false); m != exact || err != nil {
		t.Errorf("an answer without a cookie to a query without a cookie: %d, %v; want %d", m, err, exact)
	}
}

// TestClientCookieIsReplaced checks that a client cookie is sent from one address only, and not for long.
func TestClientCookieIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inUse()
		seen := map[string]bool{}
		use := func(local string) (fresh bool) {
			value := c.use(netip.MustParseAddr(local), time.Now())
			if len(value) != clientCookieLen {
				t.Fatalf("cookie %q, want a client cookie", value)
			}
			fresh = !seen[string(value)]
			seen[string(value)] = true
			return fresh
		}
		for i, step := range []struct {
			local string
			after time.Duration
			fresh bool
		}{
			{"127.0.0.1", 0, true}, {"127.0.0.1", cookieLife - 1, false}, {"127.0.0.1", 1, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, false}, {"127.0.0.1", 0, true},
		} {
			time.Sleep(step.after)
			if fresh := use(step.local); fresh != step.fresh {
				t.Errorf("step %d: a new client cookie: %v, want %v", i, fresh, step.fresh)
			}
		}
		old := c.current.Load()
		time.Sleep(cookieLife)
		use("127.0.0.1")
		c.store(append(bytes.Clone(old.value()), "server01"...))
		if k := c.current.Load(); k.size != clientCookieLen {
			t.Errorf("the answer to an old client cookie gave the new one a server cookie: %q", k.value())
		}
		c.forget()
		if value := c.use(loopback, time.Now()); value != nil {
			t.Errorf("cookie %q after it was forgotten, want none", value)
		}
	})
}

// TestJudgingCookiesAllocatesNothing checks the method that judges every datagram with a cookie.
func TestJudgingCookiesAllocatesNothing(t *testing.T) {
	q := Question{Name: dnstest.WireName(t, "www.example.org"), Type: 1, Class: 1}
	c := inUse()
	client := bytes.Clone(c.use(loopback, time.Now()))
	query := AppendQuery(nil, &q, 77, Form{EDNS: true, Cookie: client})
	msg := answerTo(t, query, withCookie(client, []byte("server01")))
	c.judge(msg, query, false, false) // stores the server cookie
	var space [MaxQuery]byte
	if n := testing.AllocsPerRun(1000, func() {
		sent := AppendQuery(space[:0], &q, 77, Form{EDNS: true, Cookie: c.use(loopback, time.Now())})
		if m, err := c.judge(msg, sent, false, false); m != exact || err != nil {
			t.Fatal(m, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations per question, want none", n)
	}
}

// FuzzReadCookie compares readCookie with another decoder.
func FuzzReadCookie(f *testing.F) {
	q := Question{Name: dnstest.WireName(f, "www.example.org"), Type: 1, Class: 1}
	client := []byte("client01")
	sent := AppendQuery(nil, &q, 77, Form{EDNS: true, Cookie: client})
	f.Add(sent)
	f.Add(answerTo(f, sent, nil))
	f.Add(answerTo(f, sent, withCookie(client, []byte("server01"))))
	f.Add(answerTo(f, sent, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.Rcode = wire.BadCookie
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 6, ExtraText: "x"}}
		dnstest.SetCookie(m, hex.EncodeToString(client))
		dnstest.SetCookie(m, "00")
	}))
	f.Fuzz(func(t *testing.T, msg []byte) {
		option, rcode := readCookie(msg)
		m := new(dns.Msg)
		if m.Unpack(msg) != nil {
			return
		}
		var opts []*dns.OPT
		for _, rr := range m.Extra {
			if opt, ok := rr.(*dns.OPT); ok {
				opts = append(opts, opt)
			}
		}
		if len(opts) > 1 {
			return // Read refuses such a message
		}
		var want []byte
		if len(opts) == 1 {
			for _, o := range opts[0].Option {
				if k, ok := o.(*dns.EDNS0_COOKIE); ok {
					want, _ = hex.DecodeString(k.Cookie)
					break
				}
			}
		}
		if !bytes.Equal(option, want) || rcode != m.Rcode {
			t.Fatalf("cookie %q, rcode %d in %q; want %q, %d", option, rcode, msg, want, m.Rcode)
		}
	})
}
