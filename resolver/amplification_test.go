package resolver

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/limits"
	"rempart/resolver/upstream"
)

var update = flag.Bool("update", false, "write the table of amplification into deploy/isp.md")

const (
	ipHeaders = 20 + 8
	mostTimes = 3 // the largest accepted mean amplification
)

// floods are the queries per second that one network sends for five seconds.
var floods = [...]int{5_000, 20_000}

// answerKind is a kind of answer to clients without a server cookie.
type answerKind struct {
	name  string
	own   bool // the answer is made here, and its size does not depend on others: a single one must not be larger than mostTimes its query
	query *dns.Msg
	from  *bench // nil: the usual one
}

// amplified is the amplification of a kind of answer, in bytes of IP packets sent for each byte received.
type amplified struct {
	query, answer int // in bytes, with IP and UDP headers
	mean          [len(floods)]float64
}

func (a amplified) single() float64 { return float64(a.answer) / float64(a.query) }

// TestAmplification checks that answers over UDP without a server cookie are at most three times as large as their queries: each single one that is made here, and the
// mean of each kind in a flood, with the default limits. It compares the measured table with the one in deploy/isp.md.
func TestAmplification(t *testing.T) {
	b := newBench(t, func(c *Config) {
		withCookies(c)
		c.Clients = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}, "evil.example")
	b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
		name := wire.Text(q.Name)
		txt := func(n int) []string {
			return []string{"@ 300 IN TXT " + strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 99)+`" `, n/100))}
		}
		switch strings.Split(name, ".")[0] {
		case "aliases":
			return records("@ 300 IN CNAME a.cdn.example.", "a.cdn.example. 300 IN CNAME b.cdn.example.", "b.cdn.example. 300 IN A 192.0.2.1", "b.cdn.example. 300 IN A 192.0.2.2")(ctx, q)
		case "large":
			return records(txt(1000)...)(ctx, q)
		case "larger":
			return records(txt(3000)...)(ctx, q)
		case "absent":
			return rcode(dns.RcodeNameError, "example.com. 300 IN SOA ns.example.com. hostmaster.example.com. 1 3600 1200 604800 300")(ctx, q)
		case "broken":
			return nil, context.DeadlineExceeded
		}
		return usual(ctx, q)
	})
	odd := func(change func(*dns.Msg)) *dns.Msg {
		m := query(t, "www.example.com", "A", "+edns")
		change(m)
		return m
	}
	named := newBench(t, func(c *Config) { c.NameSources = true }, "evil.example")
	full := newBench(t, nil)
	full.r.flights.init(0)
	var rows strings.Builder
	for _, k := range []answerKind{
		{"blocked, A, without EDNS", true, query(t, "www.evil.example", "A"), nil},
		{"blocked, A", true, query(t, "www.evil.example", "A", "+edns"), nil},
		{"blocked, AAAA", true, query(t, "www.evil.example", "AAAA", "+edns"), nil},
		{"blocked, HTTPS", true, query(t, "www.evil.example", "HTTPS", "+edns"), nil},
		{"blocked, A, with the lists (REMPART_REASON=lists)", true, query(t, "www.evil.example", "A", "+edns"), named},
		{"blocked, structured error", false, query(t, "www.evil.example", "A", "+sde"), nil},
		{"blocked, with a client cookie alone", true, carry(query(t, "www.evil.example", "A", "+edns"), clientCookie), nil},
		{"special-use name, NXDOMAIN", true, query(t, "www.example.invalid", "A", "+edns"), nil},
		{"cached, one address", true, query(t, "www.example.com", "A", "+edns"), nil},
		{"cached, one address, with a client cookie alone", true, carry(query(t, "www.example.com", "A", "+edns"), clientCookie), nil},
		{"cached, two aliases and two addresses", false, query(t, "aliases.example.com", "A", "+edns"), nil},
		{"cached, NXDOMAIN", false, query(t, "absent.example.com", "A", "+edns"), nil},
		{"cached, 1,000 bytes of text", false, query(t, "large.example.com", "TXT", "+edns"), nil},
		{"cached, too large for UDP", true, query(t, "larger.example.com", "TXT", "+edns"), nil},
		{"failure of the upstream, SERVFAIL", true, query(t, "broken.example.com", "A", "+edns"), nil},
		{"overload, SERVFAIL", true, query(t, "www.example.com", "A", "+edns"), full},
		{"ANY", true, query(t, "www.example.com", "ANY", "+edns"), nil},
		{"version.bind", true, odd(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), nil},
		{"zone transfer, REFUSED", true, query(t, "example.com", "AXFR", "+edns"), nil},
		{"no recursion desired, REFUSED", true, query(t, "www.example.com", "A", "+edns", "-rd"), nil},
		{"other client, REFUSED", true, query(t, "refused.example.com", "A", "+edns"), nil},
		{"malformed cookie, FORMERR", true, carry(query(t, "www.example.com", "A", "+edns"), "ff"), nil},
		{"other opcode, NOTIMP", true, odd(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), nil},
		{"other EDNS version, BADVERS", true, odd(func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }), nil},
	} {
		a := cmp.Or(k.from, b).amplification(k)
		fmt.Fprintf(&rows, "| %s | %d | %d | %.1f |", k.name, a.query, a.answer, a.single())
		for i, mean := range a.mean {
			fmt.Fprintf(&rows, " %.1f |", mean)
			if mean > mostTimes {
				t.Errorf("%s: mean amplification %.2f at %d queries per second, want at most %d", k.name, mean, floods[i], mostTimes)
			}
		}
		if rows.WriteByte('\n'); k.own && a.single() > mostTimes {
			t.Errorf("%s: an answer of %d bytes to a query of %d bytes, want at most %d times as many", k.name, a.answer, a.query, mostTimes)
		}
	}
	dnstest.CheckTable(t, filepath.Join("..", "deploy", "isp.md"), "amplification", "go test ./resolver -run Amplification -update",
		"| answer | query, bytes | answer, bytes | one answer | mean at 5,000/s | mean at 20,000/s |\n|---|---|---|---|---|---|\n"+rows.String(), *update)
}

// amplification measures a kind of answer: a single one, and those that a limiter with the default limits leaves in floods.
func (b *bench) amplification(k answerKind) (a amplified) {
	b.t.Helper()
	client := netip.MustParseAddr("203.0.113.9")
	if strings.HasPrefix(k.name, "other client") {
		client = netip.MustParseAddr("198.51.100.9")
	}
	batch := fastBatch(b.t, k.query)
	q := &batch[0]
	q.Client = client
	b.w.Fast(batch)
	if q.Outcome == wire.Slow {
		Continue(context.Background(), b.w, q)
	}
	if q.Outcome != wire.Answered {
		b.t.Fatalf("%s: outcome %d", k.name, q.Outcome)
	}
	whole := append([]byte(nil), q.Out...)
	answered := *q
	a.query, a.answer = len(q.Packet)+ipHeaders, len(whole)+ipHeaders
	for i, rate := range floods {
		l := limits.New(limits.Config{Limits: []limits.Limit{{Clients: netip.MustParsePrefix("0.0.0.0/0"), Bytes: 256 << 10, Answers: 20_000}}})
		const lasts = 5 * time.Second
		queries := rate * int(lasts/time.Second)
		sent := 0
		for n := range queries {
			*q = answered
			q.Out = append(q.Out[:0], whole...)
			now := lasts * time.Duration(n) / time.Duration(queries)
			l.Count(batch, now)
			l.Weigh(q, now)
			sent += len(q.Out) + ipHeaders
		}
		a.mean[i] = float64(sent) / float64(queries*a.query)
	}
	return a
}
