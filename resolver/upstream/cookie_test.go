package upstream

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// cookieStrikes is a constant of package transport: the questions in a row that only TCP answers, until cookies are given up.
const cookieStrikes = 3

// changing returns a function that returns another server cookie each time, and the newest one.
func changing() (server func() string, newest func() string) {
	n := new(atomic.Uint64)
	return func() string { return fmt.Sprintf("%016x", n.Add(1)) }, func() string { return fmt.Sprintf("%016x", n.Load()) }
}

// constant returns a function that returns one server cookie of 32 bytes.
func constant() string { return strings.Repeat("0123456789abcdef", 4) }

// rightAnswer is the handler of an upstream that is not attacked.
var rightAnswer = dnstest.Answer("@ 300 IN A 192.0.2.7")

// offered returns a pool that has offered a cookie to u. echoed says whether u echoes it.
func offered(t *testing.T, u *dnstest.Upstream, echoed bool) *Pool {
	t.Helper()
	p := newPool(t, nil, overUDP(u))
	offer(t, p, echoed)
	return p
}

// offer offers a cookie to the upstream of p. echoed says whether the upstream echoes it.
func offer(t *testing.T, p *Pool, echoed bool) {
	t.Helper()
	if got := p.checkLoop(t.Context(), p.members[0]); got != noLoop {
		t.Errorf("the loop check returned %d, want no loop", got)
	}
	if via(p).SendsCookies() != echoed {
		t.Fatalf("cookies are sent: %v, want %v", !echoed, echoed)
	}
}

// cookieExchange asks u for a name by p. It returns the queries that u received for it, after checking that the answer is the right one, and that no query over TCP
// has a cookie.
func cookieExchange(t *testing.T, p *Pool, u *dnstest.Upstream, name string) []*dnstest.Query {
	t.Helper()
	m, _ := exchange(t, p, name)
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.7" {
		t.Errorf("%s: answer\n%v", name, m)
	}
	var queries []*dnstest.Query
	for _, q := range u.Seen() {
		if !strings.EqualFold(q.Msg.Question[0].Name, name+".") {
			continue
		}
		queries = append(queries, q)
		if client, _ := q.Cookie(); client != "" && q.Network != "udp" {
			t.Errorf("%s: a query over %s has a cookie", name, q.Network)
		}
	}
	return queries
}

// networks returns the networks of queries, in order.
func networks(queries []*dnstest.Query) string {
	var all []string
	for _, q := range queries {
		all = append(all, q.Network)
	}
	return strings.Join(all, " ")
}

// TestCookiesAreSentOnceEchoed checks that queries carry no cookie before an upstream has echoed one, and then the newest server cookie.
func TestCookiesAreSentOnceEchoed(t *testing.T) {
	server, newest := changing()
	u := dnstest.NewUpstream(t, dnstest.EchoCookie(server, rightAnswer))
	p := newPool(t, nil, overUDP(u))
	if client, _ := cookieExchange(t, p, u, "before.example")[0].Cookie(); client != "" {
		t.Errorf("a query carries the cookie %s before any was echoed", client)
	}
	offer(t, p, true)
	clients := map[string]bool{}
	for i := range 5 {
		want := newest()
		queries := cookieExchange(t, p, u, fmt.Sprintf("n%d.example", i))
		client, got := queries[0].Cookie()
		clients[client] = true
		if networks(queries) != "udp" || got != want {
			t.Errorf("%s, server cookie %q; want one query over UDP with %q", networks(queries), got, want)
		}
	}
	if len(clients) != 1 {
		t.Errorf("%d client cookies, want one", len(clients))
	}
}

// TestTruncatedAnswerWithCookie checks that a truncated answer with a cookie is asked for over TCP, without a cookie.
func TestTruncatedAnswerWithCookie(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.EchoCookie(constant, rightAnswer))
	p := offered(t, u, true)
	u.Handle(dnstest.EchoCookie(constant, dnstest.Truncate(rightAnswer)))
	for i := range 2 * cookieStrikes {
		if queries := cookieExchange(t, p, u, fmt.Sprintf("n%d.example", i)); networks(queries) != "udp tcp" {
			t.Errorf("queries over %s, want UDP, then TCP", networks(queries))
		}
	}
	if !via(p).SendsCookies() {
		t.Error("truncated answers made the pool give up cookies")
	}
}

// TestUpstreamWithoutCookiesLosesNothing checks that an upstream is asked as before if it does not echo the cookie that it was offered.
func TestUpstreamWithoutCookiesLosesNothing(t *testing.T) {
	onCookie := func(h dnstest.Handler) dnstest.Handler {
		return func(q *dnstest.Query) {
			if client, _ := q.Cookie(); client != "" {
				h(q)
				return
			}
			rightAnswer(q)
		}
	}
	altered := func(cookie func(client string) string) dnstest.Handler {
		return onCookie(func(q *dnstest.Query) {
			client, _ := q.Cookie()
			dnstest.Alter(rightAnswer, func(m *dns.Msg) { dnstest.SetCookie(m, cookie(client)) })(q)
		})
	}
	for name, h := range map[string]dnstest.Handler{
		"no cookie":                   rightAnswer,
		"FORMERR without OPT":         onCookie(dnstest.NoEDNS(rightAnswer)),
		"FORMERR":                     onCookie(dnstest.Rcode(dns.RcodeFormatError)),
		"FORMERR without a question":  onCookie(withoutQuestion(dns.RcodeFormatError)),
		"NOTIMP":                      onCookie(dnstest.Rcode(dns.RcodeNotImplemented)),
		"SERVFAIL":                    onCookie(dnstest.Rcode(dns.RcodeServerFailure)),
		"REFUSED":                     onCookie(dnstest.Rcode(dns.RcodeRefused)),
		"BADVERS":                     onCookie(dnstest.Rcode(dns.RcodeBadVers)),
		"BADCOOKIE without a cookie":  onCookie(dnstest.Rcode(dns.RcodeBadCookie)),
		"no answer":                   onCookie(dnstest.Drop()),
		"truncated":                   onCookie(dnstest.Truncate(dnstest.Drop())),
		"lower case":                  onCookie(dnstest.LowerCase(rightAnswer)),
		"malformed":                   onCookie(func(q *dnstest.Query) { q.SendRaw([]byte("x")) }),
		"the client cookie only":      altered(func(client string) string { return client }),
		"another client cookie":       altered(func(string) string { return "0123456789abcdef" + constant() }),
		"a server cookie of 7 bytes":  altered(func(client string) string { return client + constant()[:14] }),
		"a server cookie of 33 bytes": altered(func(client string) string { return client + constant() + "00" }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := dnstest.NewUpstream(t, h)
			p := offered(t, u, false)
			if !via(p).UsesEDNS() || !via(p).MixesCase() || !p.Stats().Upstreams[0].Healthy {
				t.Errorf("EDNS: %v, mixed case: %v, %+v; want all as before the offer", via(p).UsesEDNS(), via(p).MixesCase(), p.Stats().Upstreams[0])
			}
			queries := cookieExchange(t, p, u, "www.example.org")
			if client, _ := queries[0].Cookie(); networks(queries) != "udp" || client != "" || queries[0].Msg.IsEdns0() == nil {
				t.Errorf("queries over %s, the first with the cookie %q; want one over UDP, with an OPT, without a cookie", networks(queries), client)
			}
		})
	}
}

// TestForgedAnswersWithoutCookie checks that an answer without the client cookie is not accepted although everything else in it is right.
func TestForgedAnswersWithoutCookie(t *testing.T) {
	for name, forge := range map[string]func(*dns.Msg){
		"no cookie":             func(*dns.Msg) {},
		"no OPT":                func(m *dns.Msg) { m.Extra = nil },
		"another client cookie": func(m *dns.Msg) { dnstest.SetCookie(m, "0123456789abcdef"+constant()) },
		"an error":              func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeServerFailure },
		"FORMERR, no OPT":       func(m *dns.Msg) { m.Answer, m.Extra, m.Rcode = nil, nil, dns.RcodeFormatError },
		"no question":           func(m *dns.Msg) { m.Question, m.Answer, m.Extra, m.Rcode = nil, nil, nil, dns.RcodeFormatError },
		"lower case":            func(m *dns.Msg) { m.Question[0].Name = strings.ToLower(m.Question[0].Name) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sound := dnstest.EchoCookie(constant, rightAnswer)
			forged := dnstest.Alter(dnstest.Answer("@ 300 IN A 203.0.113.66"), forge)
			u := dnstest.NewUpstream(t, sound)
			p := offered(t, u, true)
			before := p.Stats().Upstreams[0].Foreign
			u.Handle(func(q *dnstest.Query) {
				if q.Network == "udp" && strings.HasPrefix(strings.ToLower(q.Msg.Question[0].Name), "attacked") {
					forged(q)
				}
				sound(q)
			})
			for i := range 2 * cookieStrikes { // never so many in a row that cookies are given up
				if queries := cookieExchange(t, p, u, fmt.Sprintf("attacked%d.example", i)); networks(queries) != "udp tcp" {
					t.Errorf("queries over %s, want UDP, then TCP", networks(queries))
				}
				if queries := cookieExchange(t, p, u, fmt.Sprintf("n%d.example", i)); networks(queries) != "udp" {
					t.Errorf("queries over %s, want UDP only", networks(queries))
				}
			}
			if !via(p).SendsCookies() || !via(p).UsesEDNS() || !via(p).MixesCase() {
				t.Errorf("cookies: %v, EDNS: %v, mixed case: %v; want all after forged answers", via(p).SendsCookies(), via(p).UsesEDNS(), via(p).MixesCase())
			}
			if n := p.Stats().Upstreams[0].Foreign - before; n < 2*cookieStrikes {
				t.Errorf("%d foreign answers were counted, want at least %d", n, 2*cookieStrikes)
			}
		})
	}
}

// TestCookiesAreGivenUp checks that cookies are no longer sent to an upstream that has stopped echoing them.
func TestCookiesAreGivenUp(t *testing.T) {
	for name, h := range map[string]dnstest.Handler{
		"no cookie": rightAnswer,
		"BADCOOKIE each time": func() dnstest.Handler {
			server, _ := changing()
			return dnstest.RequireCookie(server, rightAnswer)
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			u := dnstest.NewUpstream(t, dnstest.EchoCookie(constant, rightAnswer))
			p := offered(t, u, true)
			u.Handle(h)
			for i := range cookieStrikes {
				if !via(p).SendsCookies() {
					t.Errorf("cookies were given up after %d questions", i)
				}
				queries := networks(cookieExchange(t, p, u, fmt.Sprintf("n%d.example", i)))
				if want := map[string]string{"no cookie": "udp tcp", "BADCOOKIE each time": "udp udp tcp"}[name]; queries != want {
					t.Errorf("queries over %s, want %s", queries, want)
				}
			}
			queries := cookieExchange(t, p, u, "after.example")
			if client, _ := queries[0].Cookie(); networks(queries) != "udp" || client != "" {
				t.Errorf("queries over %s, the first with the cookie %q; want one over UDP without a cookie", networks(queries), client)
			}
			before := len(u.Seen())
			u.Handle(dnstest.EchoCookie(constant, rightAnswer))
			offer(t, p, false)
			for _, q := range u.Seen()[before:] {
				if client, _ := q.Cookie(); client != "" {
					t.Error("a cookie was offered again at once")
				}
			}
		})
	}
}

// TestCookiesEndWithUpstream checks that an upstream which was replaced by one without cookies and without TCP is used again.
func TestCookiesEndWithUpstream(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.EchoCookie(constant, rightAnswer))
	noTCP := func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "tcp" {
			return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	p := newPoolOf(t, Config{Dial: noTCP, patience: defaultTimeout, plainAfter: defaultTimeout}, overUDP(u))
	p.members[0].batched = true // by a Sender, too
	offer(t, p, true)
	u.Handle(rightAnswer)
	if _, err := exchangeWith(p, t.Context(), question(t, "first.example")); err == nil {
		t.Error("an answer without a cookie was accepted")
	}
	dnstest.Eventually(t, "cookies are no longer sent", func() bool { // a probe may go between
		_, err := exchangeWith(p, t.Context(), question(t, "next.example"))
		return err == nil && !via(p).SendsCookies()
	})
}

// TestRefusedServerCookie checks that the question is asked again over UDP when an upstream no longer knows its server cookie.
func TestRefusedServerCookie(t *testing.T) {
	var current atomic.Value
	current.Store("0123456789abcdef")
	u := dnstest.NewUpstream(t, dnstest.RequireCookie(func() string { return current.Load().(string) }, rightAnswer))
	p := offered(t, u, true)
	for i := range 2 * cookieStrikes {
		if queries := cookieExchange(t, p, u, fmt.Sprintf("known%d.example", i)); networks(queries) != "udp" {
			t.Errorf("queries over %s, want one over UDP", networks(queries))
		}
		current.Store(fmt.Sprintf("%032x", i))
		if queries := cookieExchange(t, p, u, fmt.Sprintf("refused%d.example", i)); networks(queries) != "udp udp" {
			t.Errorf("queries over %s, want two over UDP", networks(queries))
		}
	}
	if !via(p).SendsCookies() {
		t.Error("cookies were given up")
	}
}

// TestClientCookieDoesNotOutliveUpstream checks that the client cookie is another one after the upstream was down.
func TestClientCookieDoesNotOutliveUpstream(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.EchoCookie(constant, rightAnswer))
	p := offered(t, u, true)
	first, _ := cookieExchange(t, p, u, "first.example")[0].Cookie()
	p.failed(p.members[0], transport.Unreachable, time.Now(), net.ErrClosed)
	if client, _ := cookieExchange(t, p, u, "down.example")[0].Cookie(); client != "" {
		t.Errorf("the cookie %s is sent after the upstream was down, want none before an offer", client)
	}
	offer(t, p, true)
	if second, _ := cookieExchange(t, p, u, "second.example")[0].Cookie(); second == "" || second == first {
		t.Errorf("the client cookies before and after are %q and %q, want two", first, second)
	}
	other, _ := cookieExchange(t, offered(t, u, true), u, "other.example")[0].Cookie()
	if other == first {
		t.Error("two pools have the same client cookie")
	}
}

// TestNoQueryWithoutEDNSWhileCookiesAreSent checks that a late answer does not make the pool send a query whose answer needs no cookie.
func TestNoQueryWithoutEDNSWhileCookiesAreSent(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.EchoCookie(constant, rightAnswer))
	p := newPoolOf(t, Config{patience: defaultTimeout, plainAfter: 20 * time.Millisecond}, overUDP(u))
	dnstest.Eventually(t, "the upstream echoes a cookie", func() bool { p.checkLoop(t.Context(), p.members[0]); return via(p).SendsCookies() })
	u.Handle(dnstest.EchoCookie(constant, dnstest.Delay(200*time.Millisecond, rightAnswer)))
	for _, q := range cookieExchange(t, p, u, "late.example") {
		if client, _ := q.Cookie(); client == "" {
			t.Errorf("a query without a cookie was sent over %s", q.Network)
		}
	}
}
