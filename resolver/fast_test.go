package resolver

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/grant"
	"rempart/internal/wire"
)

// fastBatch makes a batch of packed queries.
func fastBatch(t testing.TB, msgs ...*dns.Msg) []wire.Query {
	t.Helper()
	batch := make([]wire.Query, len(msgs))
	for i, m := range msgs {
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch[i] = wire.Query{Packet: packed, Client: netip.MustParseAddr("127.0.0.99"), Out: make([]byte, 0, 2048)}
	}
	return batch
}

// TestFastDoesNotAllocate checks that Fast allocates no memory. It is skipped under the race detector, which allocates memory itself.
func TestFastDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := newBench(t, nil, "evil.example")
	b.r.SetDesignated(designated(t, nil))
	for _, tt := range []struct {
		name    string
		query   *dns.Msg
		outcome wire.Outcome
	}{
		{"hit", query(t, "www.example.com", "A", "+do"), wire.Answered},
		{"block", query(t, "www.evil.example", "A", "+edns"), wire.Answered},
		{"structured block", query(t, "www.evil.example", "A", "+sde"), wire.Answered},
		{"miss", query(t, "not.cached.example", "A", "+edns"), wire.Slow},
		{"special use", query(t, "printer.local", "A"), wire.Answered},
		{"reverse", query(t, "1.0.0.10.in-addr.arpa", "PTR"), wire.Answered},
		{"refused", query(t, "example.com", "AXFR"), wire.Answered},
		{"discovery by name", query(t, "_dns.dns.example", "SVCB", "+edns"), wire.Answered},
		{"information by name", query(t, "dns.example", "RESINFO", "+edns"), wire.Answered},
	} {
		if tt.name == "hit" {
			warm := fastBatch(t, tt.query)
			b.w.Fast(warm)
			b.r.Slow(context.Background(), &warm[0])
		}
		batch := fastBatch(t, tt.query, tt.query, tt.query)
		if n := testing.AllocsPerRun(100, func() { b.w.Fast(batch) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", tt.name, n)
		}
		if batch[0].Outcome != tt.outcome {
			t.Errorf("%s: outcome %d, want %d", tt.name, batch[0].Outcome, tt.outcome)
		}
	}
}

// FuzzFast checks that the answer to any packet has the properties that a client relies on.
func FuzzFast(f *testing.F) {
	for _, m := range []*dns.Msg{
		query(f, "www.evil.example", "A", "+sde"), query(f, "example.com", "ANY"), query(f, "x.test", "HTTPS", "+do"),
		query(f, "1.0.0.10.in-addr.arpa", "PTR"), query(f, ".", "NS", "+edns"), query(f, "evil.example.ask."+probeName, "AAAA"),
		query(f, strings.Repeat("a", grant.TokenLen)+".evil.example.go."+probeName, "A", "+edns"),
		carry(query(f, "www.evil.example", "A"), clientCookie), carry(query(f, "example.com", "A"), clientCookie+"0100000000000000deadbeefdeadbeef"),
	} {
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	secrets := grant.Random()
	b := newBench(f, func(c *Config) {
		withCookies(c)
		withGrants(f, secrets)(c)
	}, "evil.example", "test", "=exact.example")
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > wire.MaxMessage {
			return
		}
		batch := []wire.Query{{Packet: packet, Client: netip.MustParseAddr("127.0.0.99")}}
		b.w.Fast(batch)
		q := &batch[0]
		if q.Outcome == wire.Slow {
			b.r.Slow(context.Background(), q)
		}
		if q.Outcome != wire.Answered {
			if len(packet) >= wire.HeaderLen && packet[2]&0x80 == 0 {
				t.Fatalf("a query was left without an answer: outcome %d", q.Outcome)
			}
			return
		}
		if len(q.Out) > q.Limit() {
			t.Fatalf("an answer of %d bytes for a client that accepts %d", len(q.Out), q.Limit())
		}
		var a dns.Msg
		if err := a.Unpack(q.Out); err != nil {
			t.Fatalf("the answer does not unpack: %v\n% x", err, q.Out)
		}
		if !a.Response || a.Id != wire.ID(packet) || a.Authoritative || (a.IsEdns0() != nil) != q.EDNS {
			t.Fatalf("wrong header or EDNS in the answer %v", &a)
		}
		if client, _ := q.ReadCookies(); len(client) > 0 && !strings.HasPrefix(cookieOf(&a), hex.EncodeToString(client)) {
			t.Fatalf("the answer to the client cookie %x has the cookie %q", client, cookieOf(&a))
		}
	})
}
