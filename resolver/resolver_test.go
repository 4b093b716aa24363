package resolver

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

const signal = 65001

// fakeUpstreams answers with the result of a function and records the questions. It is the only fake of these tests: sockets do not work under virtual time,
// and the real pool has its own tests.
type fakeUpstreams struct {
	mu       sync.Mutex
	asked    []string
	sighted  []string
	answer   func(ctx context.Context, q upstream.Question) (*dns.Msg, error)
	untrusty bool
	secret   string // what Sighted returns
}

func (f *fakeUpstreams) Exchange(ctx context.Context, q upstream.Question) (upstream.Answer, error) {
	f.mu.Lock()
	f.asked = append(f.asked, wire.Text(q.Name)+" "+dns.TypeToString[q.Type])
	answer := f.answer
	f.mu.Unlock()
	m, err := answer(ctx, q)
	if err != nil {
		return upstream.Answer{}, err
	}
	m.Response = true
	if len(m.Question) == 0 {
		m.Question = []dns.Question{{Name: wire.Text(q.Name) + ".", Qtype: q.Type, Qclass: q.Class}}
	}
	packed, err := m.Pack()
	return upstream.Answer{Packed: packed, Authenticated: !f.untrusty}, err
}

func (f *fakeUpstreams) Sighted(name []byte) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sighted = append(f.sighted, wire.Text(name))
	return f.secret
}

func (f *fakeUpstreams) set(answer func(context.Context, upstream.Question) (*dns.Msg, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeUpstreams) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// records answers with resource records in zone-file format, in which "@" is the question's name.
func records(rrs ...string) func(context.Context, upstream.Question) (*dns.Msg, error) {
	return func(_ context.Context, q upstream.Question) (*dns.Msg, error) {
		m := new(dns.Msg)
		for _, s := range rrs {
			if rest, ok := strings.CutPrefix(s, "@ "); ok {
				s = wire.Text(q.Name) + ". " + rest
			}
			rr, err := dns.NewRR(s)
			if err != nil {
				return nil, err
			}
			if rr.Header().Rrtype == dns.TypeSOA {
				m.Ns = append(m.Ns, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		return m, nil
	}
}

func rcode(rc int, rrs ...string) func(context.Context, upstream.Question) (*dns.Msg, error) {
	return func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
		m, err := records(rrs...)(ctx, q)
		if err == nil {
			m.Rcode = rc
		}
		return m, err
	}
}

func failing(err error) func(context.Context, upstream.Question) (*dns.Msg, error) {
	return func(context.Context, upstream.Question) (*dns.Msg, error) { return nil, err }
}

// view compiles a set with the given version. In lines, "name" blocks the subtree as phishing, "=name" the name
// itself, "+name" allows.
func view(t testing.TB, version uint64, lines ...string) *blocklist.View {
	t.Helper()
	listings := make([]blocklist.Listing, 0, len(lines))
	for _, line := range lines {
		l := blocklist.Listing{Scope: blocklist.Subtree, Category: blocklist.Phishing}
		if rest, ok := strings.CutPrefix(line, "+"); ok {
			l.Decision, line = blocklist.Allow, rest
		}
		if rest, ok := strings.CutPrefix(line, "="); ok {
			l.Scope, line = blocklist.Exact, rest
		}
		var err error
		if l.Prefix, err = netip.ParsePrefix(line); err != nil {
			if l.Name, err = blocklist.AppendName(nil, line); err != nil {
				t.Fatal(err)
			}
		}
		listings = append(listings, l)
	}
	return listingsView(t, version, listings...)
}

// listingsView compiles the listings of one source to a set with the given version.
func listingsView(t testing.TB, version uint64, listings ...blocklist.Listing) *blocklist.View {
	t.Helper()
	b := blocklist.NewBuilder()
	for _, l := range listings {
		if err := b.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	return compiled(t, version, b.Input(blocklist.Source{Name: "test"}))
}

// compiled returns the view of a set with the given version.
func compiled(t testing.TB, version uint64, sources ...*blocklist.Input) *blocklist.View {
	t.Helper()
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: version}, sources...); err != nil {
		t.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.NewView(s, nil)
}

// bench is a resolver with a fake upstream, a set and a worker.
type bench struct {
	t   testing.TB
	up  *fakeUpstreams
	set *blocklist.Set
	r   *Resolver
	w   *Worker
}

func newBench(t testing.TB, change func(*Config), lines ...string) *bench {
	t.Helper()
	b := &bench{t: t, up: &fakeUpstreams{answer: usual}, set: blocklist.NewSet(view(t, 1, lines...))}
	store, err := cache.New(cache.MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Set: b.set, Cache: store, Upstreams: b.up, StructuredOption: signal, Identity: "0123abcd",
		PageIPv4: netip.MustParseAddr("192.0.2.66"), PageIPv6: netip.MustParseAddr("2001:db8::66"),
		Contact: "mailto:abuse@isp.example", Organisation: "Example",
	}
	if change != nil {
		change(&c)
	}
	if b.r, err = New(c); err != nil {
		t.Fatal(err)
	}
	b.w = b.r.NewWorker()
	t.Cleanup(b.r.Close)
	return b
}

// usual answers with a record of the asked type, or of type A.
func usual(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
	answer := "@ 300 IN A 192.0.2.1"
	switch q.Type {
	case wire.TypeDS:
		answer = "@ 300 IN DS 1 13 2 00"
	case wire.TypeDNSKEY:
		answer = "@ 300 IN DNSKEY 257 3 13 AAAA"
	case 65280:
		answer = `@ 300 IN TYPE65280 \# 1 00`
	}
	return records(answer)(ctx, q)
}

// query makes a query of a name, a type, and "+edns", "+do", "+ad", "+cd", "+sde", "+ede15", "-rd".
func query(t testing.TB, name, typ string, options ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	qtype, ok := dns.StringToType[typ]
	if !ok {
		t.Fatalf("no type %s", typ)
	}
	m.SetQuestion(dns.Fqdn(name), qtype)
	for _, o := range options {
		switch o {
		case "+edns":
			m.SetEdns0(1232, false)
		case "+do":
			m.SetEdns0(1232, true)
		case "+sde":
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: signal})
		case "+ede15":
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: wire.EDEBlocked})
		case "+ad":
			m.AuthenticatedData = true
		case "+cd":
			m.CheckingDisabled = true
		case "-rd":
			m.RecursionDesired = false
		default:
			t.Fatalf("no option %s", o)
		}
	}
	return m
}

// ask passes a query through Fast and, if needed, Slow. It returns the answer, or nil if there is none, and whether Fast gave the answer.
func (b *bench) ask(m *dns.Msg) (answer *dns.Msg, fast bool) {
	b.t.Helper()
	packed, err := m.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.askPacked(packed)
}

func (b *bench) askPacked(packed []byte) (*dns.Msg, bool) {
	b.t.Helper()
	return b.askPackedFrom(netip.MustParseAddr("127.0.0.99"), packed)
}

// askFrom asks as the client with the given address.
func (b *bench) askFrom(client netip.Addr, m *dns.Msg) *dns.Msg {
	b.t.Helper()
	packed, err := m.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	answer, _ := b.askPackedFrom(client, packed)
	return answer
}

func (b *bench) askPackedFrom(client netip.Addr, packed []byte) (*dns.Msg, bool) {
	b.t.Helper()
	batch := []wire.Query{{Packet: packed, Client: client}}
	b.w.Fast(batch)
	q := &batch[0]
	fast := q.Outcome == wire.Answered
	if q.Outcome == wire.Slow {
		Continue(context.Background(), b.w, q)
	} else if q.Renew {
		renewal := *q
		Continue(context.Background(), b.w, &renewal)
	}
	if q.Outcome != wire.Answered {
		return nil, fast
	}
	a := new(dns.Msg)
	if err := a.Unpack(q.Out); err != nil {
		b.t.Fatalf("the answer does not unpack: %v", err)
	}
	return a, fast
}

// brief returns an answer on one line: rcode, records, extended errors.
func brief(a *dns.Msg) string {
	if a == nil {
		return "nothing"
	}
	parts := []string{dns.RcodeToString[a.Rcode]}
	if a.Truncated {
		parts = append(parts, "tc")
	}
	if a.AuthenticatedData {
		parts = append(parts, "ad")
	}
	for _, rr := range a.Answer {
		parts = append(parts, strings.Join(strings.Fields(rr.String()), " "))
	}
	for _, rr := range a.Ns {
		h := rr.Header()
		parts = append(parts, h.Name+" "+dns.TypeToString[h.Rrtype])
	}
	if o := a.IsEdns0(); o != nil {
		parts = append(parts, "opt")
		for _, x := range o.Option {
			if e, ok := x.(*dns.EDNS0_EDE); ok {
				parts = append(parts, dns.ExtendedErrorCodeToString[e.InfoCode])
			}
		}
	}
	return strings.Join(parts, " | ")
}

func TestBlockedAnswer(t *testing.T) {
	lines := []string{"evil.example", "=exact.example", "held.example", "+ok.held.example"}
	for _, tt := range []struct {
		name  string
		style Style
		query *dns.Msg
		want  string
	}{
		{"A", Page, query(t, "evil.example", "A"), "NOERROR | evil.example. 30 IN A 192.0.2.66"},
		{"A below", Page, query(t, "WWW.evil.example", "A"), "NOERROR | WWW.evil.example. 30 IN A 192.0.2.66"},
		{"AAAA with EDNS", Page, query(t, "evil.example", "AAAA", "+edns"), "NOERROR | evil.example. 30 IN AAAA 2001:db8::66 | opt | Blocked | Forged Answer"},
		{"DO and CD change nothing", Page, query(t, "evil.example", "A", "+do", "+cd", "+ad"), "NOERROR | evil.example. 30 IN A 192.0.2.66 | opt | Blocked | Forged Answer"},
		{"HTTPS", Page, query(t, "www.evil.example", "HTTPS", "+edns"), "NOERROR | evil.example. SOA | opt | Blocked | Forged Answer"},
		{"MX", Page, query(t, "evil.example", "MX"), "NOERROR | evil.example. SOA"},
		{"ANY", Page, query(t, "evil.example", "ANY"), "NOERROR | evil.example. SOA"},
		{"DS is not blocked", Page, query(t, "evil.example", "DS"), "NOERROR | evil.example. 300 IN DS 1 13 2 00"},
		{"DNSKEY is not blocked", Page, query(t, "evil.example", "DNSKEY"), "NOERROR | evil.example. 300 IN DNSKEY 257 3 13 AAAA"},
		{"no recursion desired", Page, query(t, "evil.example", "A", "-rd"), "NOERROR | evil.example. 30 IN A 192.0.2.66"},
		{"structured", Page, query(t, "www.evil.example", "A", "+sde"), "NXDOMAIN | evil.example. SOA | opt | Blocked"},
		{"structured, asked for by EDE", Page, query(t, "www.evil.example", "A", "+ede15"), "NXDOMAIN | evil.example. SOA | opt | Blocked"},
		{"structured, exact", Page, query(t, "exact.example", "A", "+sde"), "NOERROR | exact.example. SOA | opt | Blocked"},
		{"structured, holds an allow", Page, query(t, "held.example", "A", "+sde"), "NOERROR | held.example. SOA | opt | Blocked"},
		{"allowed below a block", Page, query(t, "www.ok.held.example", "A"), "NOERROR | www.ok.held.example. 300 IN A 192.0.2.1"},
		{"NXDOMAIN", NXDomain, query(t, "evil.example", "A", "+edns"), "NXDOMAIN | evil.example. SOA | opt | Blocked | Forged Answer"},
		{"NXDOMAIN, exact", NXDomain, query(t, "exact.example", "A", "+edns"), "NOERROR | exact.example. SOA | opt | Blocked | Forged Answer"},
		{"NODATA", NoData, query(t, "evil.example", "A", "+edns"), "NOERROR | evil.example. SOA | opt | Blocked | Forged Answer"},
		{"REFUSED", Refused, query(t, "evil.example", "A", "+edns"), "REFUSED | opt | Blocked | Forged Answer"},
		{"null A", Null, query(t, "evil.example", "A", "+edns"), "NOERROR | evil.example. 30 IN A 0.0.0.0 | opt | Blocked | Forged Answer"},
		{"null AAAA", Null, query(t, "evil.example", "AAAA"), "NOERROR | evil.example. 30 IN AAAA ::"},
	} {
		b := newBench(t, func(c *Config) { c.Style = tt.style }, lines...)
		a, _ := b.ask(tt.query)
		if got := brief(a); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if a != nil && (a.Authoritative || a.AuthenticatedData || !a.RecursionAvailable || a.CheckingDisabled != tt.query.CheckingDisabled) {
			t.Errorf("%s: flags of %v", tt.name, a.MsgHdr)
		}
	}
}

// TestLastExtendedErrorKeepsBlock checks that the last extended error of every blocked answer is one with which Firefox does not ask another resolver.
func TestLastExtendedErrorKeepsBlock(t *testing.T) {
	for style := Page; style <= Null; style++ {
		for mark := blocklist.Blocked; mark <= blocklist.Filtered; mark++ {
			b := newBench(t, func(c *Config) { c.Style, c.PageIPv6 = style, netip.Addr{} })
			replace(t, b, blocklist.Listing{Scope: blocklist.Subtree, Mark: mark})
			for _, typ := range []string{"A", "AAAA", "HTTPS"} {
				a, _ := b.ask(query(t, "evil.example", typ, "+edns"))
				options := a.IsEdns0().Option
				first, last := options[0].(*dns.EDNS0_EDE).InfoCode, options[len(options)-1].(*dns.EDNS0_EDE).InfoCode
				if first != wire.EDEBlocked+uint16(mark) || last != wire.EDEForged && last != wire.EDEFiltered {
					t.Errorf("style %d, mark %d, %s: %s", style, mark, typ, brief(a))
				}
			}
		}
	}
}

func TestReasonNamesTheLists(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NameSources = true })
	day := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC).Unix()
	replace(t, b, blocklist.Listing{Scope: blocklist.Subtree, Category: blocklist.Phishing, Since: day})
	for _, flag := range []string{"+edns", "+sde"} {
		batch := fastBatch(t, query(t, "www.evil.example", "A", flag))
		b.w.Fast(batch)
		want := "phishing: CERT.PL since 2026-08-01"
		if flag == "+sde" {
			want = "(CERT.PL depuis le 2026-08-01)."
		}
		if !strings.Contains(string(batch[0].Out), want) {
			t.Errorf("%s: the answer does not say %q: %q", flag, want, batch[0].Out)
		}
		if n := testing.AllocsPerRun(10, func() { b.w.Fast(batch) }); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", flag, n)
		}
	}
}

func TestRcodesOfUnusualQueries(t *testing.T) {
	raw := func(change func(*dns.Msg)) []byte {
		m := query(t, "example.com", "A")
		change(m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := newBench(t, nil)
	for _, tt := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"opcode 15", raw(func(m *dns.Msg) { m.Opcode = 15 }), "NOTIMP"},
		{"UPDATE with EDNS", raw(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate; m.SetEdns0(1232, false) }), "NOTIMP | opt"},
		{"an answer", raw(func(m *dns.Msg) { m.Response = true }), "nothing"},
		{"no question", raw(func(m *dns.Msg) { m.Question = nil }), "FORMERR"},
		{"EDNS version 1", raw(func(m *dns.Msg) { m.SetEdns0(1232, true); m.IsEdns0().SetVersion(1) }), "BADSIG | opt"}, // miekg/dns prints the rcode BADVERS (16) as BADSIG
		{"ANY", raw(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY }), `NOERROR | example.com. 3600 IN HINFO "RFC8482" ""`},
		{"AXFR", raw(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), "REFUSED"},
		{"IXFR", raw(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR }), "REFUSED"},
		{"IXFR with its SOA", raw(func(m *dns.Msg) {
			m.Question[0].Qtype = dns.TypeIXFR
			m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}}
		}), "REFUSED"},
		{"authority with another type", raw(func(m *dns.Msg) {
			m.Ns = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: 65280, Class: dns.ClassINET}}}
		}), "FORMERR"},
		{"NXNAME", raw(func(m *dns.Msg) { m.Question[0].Qtype = 128 }), "FORMERR"},
		{"MAILB", raw(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMAILB }), "NOTIMP"},
		{"type 0", raw(func(m *dns.Msg) { m.Question[0].Qtype = 0 }), "FORMERR"},
		{"class ANY", raw(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), "REFUSED"},
		{"CHAOS version", raw(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), `NOERROR | version.bind. 0 CH TXT "Rempart"`},
		{"CHAOS instance", raw(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "instance.rempart.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), `NOERROR | instance.rempart. 0 CH TXT "0123abcd"`},
		{"CHAOS hostname", raw(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "hostname.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), "REFUSED"},
		{"no recursion desired", raw(func(m *dns.Msg) { m.RecursionDesired = false; m.SetEdns0(1232, false) }), "REFUSED | opt | Not Authoritative"},
		{"TSIG of an unknown key", raw(func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1) }), "NOTAUTH"},
		{"TSIG that is not last", raw(func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1); m.SetEdns0(1232, false) }), "FORMERR | opt"},
		{"TSIG twice", raw(func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 1).SetTsig("key.", dns.HmacSHA256, 300, 1) }), "FORMERR"},
		{"unknown additional record", raw(func(m *dns.Msg) { m.Extra = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: 65280}}} }), "NOERROR | example.com. 300 IN A 192.0.2.1"},
		{"an unknown type", raw(func(m *dns.Msg) { m.Question[0].Qtype = 65280 }), "NOERROR | example.com. 300 CLASS1 TYPE65280 \\# 1 00"},
	} {
		a, _ := b.askPacked(tt.packet)
		if got := brief(a); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestOtherClientsAreRefused(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Clients = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "evil.example")
	a, _ := b.ask(query(t, "evil.example", "A", "+edns"))
	if got := brief(a); got != "REFUSED | opt | Prohibited" {
		t.Errorf("answer %s, want REFUSED with EDE Prohibited", got)
	}
}

func TestSpecialUse(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	zone, _ := wire.AppendName(nil, "home.arpa")
	corp, _ := wire.AppendName(nil, "168.192.in-addr.arpa")
	b := newBench(t, func(c *Config) { c.Forward = []Zone{{zone, home}, {corp, home}} }, "phishing.test", "bad.invalid")
	for _, tt := range []struct{ name, typ, want string }{
		{"localhost", "A", "NOERROR | localhost. 10800 IN A 127.0.0.1"},
		{"app.localhost", "AAAA", "NOERROR | app.localhost. 10800 IN AAAA ::1"},
		{"localhost", "MX", "NOERROR | localhost. SOA"},
		{"phishing.test", "A", "NOERROR | phishing.test. 30 IN A 192.0.2.66"},
		{"bad.invalid", "A", "NOERROR | bad.invalid. 30 IN A 192.0.2.66"},
		{"other.test", "A", "NXDOMAIN | test. SOA"},
		{"x.invalid", "A", "NXDOMAIN | invalid. SOA"},
		{"secret.onion", "A", "NXDOMAIN | onion. SOA"},
		{"printer.local", "A", "NXDOMAIN | local. SOA"},
		{"_dns.resolver.arpa", "SVCB", "NOERROR | resolver.arpa. SOA"},
		{"1.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN | 10.in-addr.arpa. SOA"},
		{"1.1.16.172.in-addr.arpa", "PTR", "NXDOMAIN | 16.172.in-addr.arpa. SOA"},
		{"1.0.64.100.in-addr.arpa", "PTR", "NXDOMAIN | 64.100.in-addr.arpa. SOA"},
		{"10.in-addr.arpa", "NS", "NOERROR | 10.in-addr.arpa. SOA"},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", "PTR", "NXDOMAIN | d.f.ip6.arpa. SOA"},
		{"printer.home.arpa", "A", "NOERROR | printer.home.arpa. 60 IN A 192.168.1.9"},
	} {
		a, _ := b.ask(query(t, tt.name, tt.typ))
		if got := brief(a); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.name, tt.typ, got, tt.want)
		}
	}
	if n := b.up.count(); n != 0 {
		t.Errorf("%d queries for special-use names were forwarded: %v", n, b.up.asked)
	}
	b.ask(query(t, "9.1.168.192.in-addr.arpa", "PTR"))
	b.ask(query(t, "1.168.192.in-addr.arpa", "DS"))
	if home.count() != 3 {
		t.Errorf("the zone's own upstream was asked %v, want three questions", home.asked)
	}
	b.ask(query(t, "8.8.8.8.in-addr.arpa", "PTR"))
	if b.up.count() != 1 {
		t.Errorf("a public reverse name was not forwarded")
	}
}

// TestDSIsForwardedToDefaultUpstream checks that the DS question of a zone that is answered here, or by its own upstream, is forwarded to the default upstream:
// a validating resolver that forwards to Rempart needs the parent's proof that the zone is not signed.
func TestDSIsForwardedToDefaultUpstream(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	b := newBench(t, func(c *Config) {
		c.Forward = []Zone{{dnstest.WireName(t, "corp.example"), home}, {dnstest.WireName(t, "168.192.in-addr.arpa"), home}}
	})
	asked := 0
	for zone := range specialUses(0) {
		if !endsIn([]byte(zone), "\x04arpa\x00") {
			continue
		}
		asked++
		b.ask(query(t, wire.Text([]byte(zone)), "DS"))
		if b.up.count() != asked {
			t.Errorf("the DS of %s was not forwarded", wire.Text([]byte(zone)))
			asked = b.up.count()
		}
	}
	if asked < 100 {
		t.Errorf("%d zones were checked, want at least 100", asked)
	}
	b.ask(query(t, "corp.example", "DS"))
	if b.up.count() != asked+1 || home.count() != 0 {
		t.Errorf("the DS of a zone with its own upstream: %d questions to the default upstream and %d to its own, want 1 and 0", b.up.count()-asked, home.count())
	}
	b.ask(query(t, "sub.corp.example", "DS"))
	if home.count() != 1 {
		t.Error("the DS of a name below a zone with its own upstream was not sent to that upstream")
	}
	b.want("a zone below one that is answered here", query(t, "1.10.in-addr.arpa", "DS"), "NXDOMAIN | 10.in-addr.arpa. SOA")
	b.want("no public zone", query(t, "onion", "DS"), "NOERROR | onion. SOA")
}

// TestWiderZoneKeepsSpecialUse checks that special-use names are not forwarded to the upstream of a wider zone, such as arpa or the root.
func TestWiderZoneKeepsSpecialUse(t *testing.T) {
	all := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	arpa, _ := wire.AppendName(nil, "arpa")
	b := newBench(t, func(c *Config) { c.Forward = []Zone{{arpa, all}, {[]byte{0}, all}} })
	b.want("reverse", query(t, "1.1.168.192.in-addr.arpa", "PTR"), "NXDOMAIN | 168.192.in-addr.arpa. SOA")
	b.want("onion", query(t, "x.onion", "A"), "NXDOMAIN | onion. SOA")
	if all.count() != 0 {
		t.Errorf("special-use names were forwarded: %v", all.asked)
	}
	b.want("ordinary", query(t, "example.com", "A"), "NOERROR | example.com. 60 IN A 192.168.1.9")
	b.ask(query(t, "home.arpa", "DS"))
	if all.count() != 2 {
		t.Error("the DS of home.arpa was not forwarded")
	}
}

func TestOwnProbeIsAnswered(t *testing.T) {
	b := newBench(t, nil)
	probe := query(t, "0123456789abcdef."+upstream.ProbeZone, "TXT")
	a, _ := b.ask(probe)
	if b.up.count() != 1 {
		t.Errorf("the probe of another server was not forwarded: %s", brief(a))
	}
	b.up.secret = "5ec2e7"
	a, _ = b.ask(probe)
	if want := `NOERROR | 0123456789abcdef.loop.rempart.example. 0 IN TXT "5ec2e7"`; brief(a) != want || len(b.up.sighted) != 2 || b.up.count() != 1 {
		t.Errorf("own probe: unexpected answer %s, sighted %v", brief(a), b.up.sighted)
	}
	a, _ = b.ask(query(t, "0123456789abcdef."+upstream.ProbeZone, "A"))
	if brief(a) != "NOERROR | loop.rempart.example. SOA" || b.up.count() != 1 {
		t.Errorf("a probe of another type: unexpected answer %s", brief(a))
	}
}

func TestAuthenticatedDataOnlyWhenAskedFor(t *testing.T) {
	for _, tt := range []struct {
		options  []string
		untrusty bool
		want     bool
	}{
		{nil, false, false}, {[]string{"+ad"}, false, true}, {[]string{"+do"}, false, true}, {[]string{"+ad"}, true, false},
	} {
		b := newBench(t, nil)
		b.up.untrusty = tt.untrusty
		b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
			m, err := records("example.com. 300 IN A 192.0.2.1")(ctx, q)
			m.AuthenticatedData = true
			return m, err
		})
		for range 2 { // the first answer comes from the upstream, the second from the cache
			a, _ := b.ask(query(t, "example.com", "A", tt.options...))
			if a.AuthenticatedData != tt.want {
				t.Errorf("%v, untrusted %v: AD is %v, want the opposite", tt.options, tt.untrusty, a.AuthenticatedData)
			}
		}
	}
}

func TestObserveModeCountsBlocksAndAnswers(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Observe = true }, "example.com")
	a, _ := b.ask(query(t, "example.com", "A"))
	if brief(a) != "NOERROR | example.com. 300 IN A 192.0.2.1" {
		t.Errorf("answer %s, want the address from the upstream", brief(a))
	}
	b.ask(query(t, "example.com", "A"))
	n := b.w.counts.queries[wire.UDP][blocklist.BlockedBy][0].Load() + b.r.slow.queries[wire.UDP][blocklist.BlockedBy][0].Load()
	if n != 2 {
		t.Errorf("%d queries were counted as blocks, want 2", n)
	}
}

func TestUncommonQueriesOfOtherClientsAreRefusedOnFastPath(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Clients = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	m := query(t, "example.com", "A")
	m.Extra = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: ".", Rrtype: 65280}}}
	if a, fast := b.ask(m); !fast || brief(a) != "REFUSED" {
		t.Errorf("fast %v, answer %s; want REFUSED on the fast path", fast, brief(a))
	}
}

func TestUpstreamErrorsBecomeSERVFAIL(t *testing.T) {
	for rc, want := range map[int]string{dns.RcodeRefused: "SERVFAIL", dns.RcodeFormatError: "SERVFAIL", dns.RcodeNotAuth: "SERVFAIL",
		dns.RcodeYXDomain: "YXDOMAIN", dns.RcodeNameError: "NXDOMAIN"} {
		b := newBench(t, nil)
		b.up.set(rcode(rc))
		b.want(dns.RcodeToString[rc], query(t, "example.com", "A"), want)
	}
}

func TestAdditionalRecordsAreDroppedBeforeTruncation(t *testing.T) {
	b := newBench(t, nil)
	b.up.set(func(_ context.Context, q upstream.Question) (*dns.Msg, error) {
		m := new(dns.Msg)
		m.Compress = true
		mx, _ := dns.NewRR(wire.Text(q.Name) + ". 300 IN MX 1 mx.example.com.")
		m.Answer = []dns.RR{mx}
		for range 40 {
			a, _ := dns.NewRR("mx.example.com. 300 IN A 192.0.2.1")
			m.Extra = append(m.Extra, a)
		}
		return m, nil
	})
	a, _ := b.ask(query(t, "example.com", "MX"))
	if a.Truncated || len(a.Answer) != 1 || len(a.Extra) != 0 {
		t.Errorf("additional records were not left out to make room for the answer: %v", a)
	}
}

func TestHitsAndMissesAreCounted(t *testing.T) {
	b := newBench(t, nil, "evil.example")
	for range 3 {
		b.ask(query(t, "example.com", "A"))
	}
	b.ask(query(t, "evil.example", "A"))
	if hits, misses := b.w.counts.hits.Load(), b.r.slow.misses.Load(); hits != 2 || misses != 1 {
		t.Errorf("%d hits and %d misses, want 2 and 1", hits, misses)
	}
}

func TestShedQueryGetsSERVFAIL(t *testing.T) {
	b := newBench(t, nil)
	packed, _ := query(t, "example.com", "A", "+edns").Pack()
	q := wire.Query{Packet: packed}
	q.Parse(signal)
	b.r.Shed(&q)
	a := new(dns.Msg)
	if err := a.Unpack(q.Out); err != nil || brief(a) != "SERVFAIL | opt | Network Error" {
		t.Errorf("answer to a shed query: %v, %s; want SERVFAIL with EDE Network Error", err, brief(a))
	}
	if b.r.slow.shed.Load() != 1 {
		t.Error("the shed query was not counted")
	}
}

func TestBlockedAnswerHasConfiguredTTL(t *testing.T) {
	b := newBench(t, func(c *Config) { c.BlockTTL = 90 * time.Second }, "evil.example")
	a, _ := b.ask(query(t, "evil.example", "A"))
	if a.Answer[0].Header().Ttl != 90 {
		t.Errorf("answer %v, want TTL 90", a)
	}
}
