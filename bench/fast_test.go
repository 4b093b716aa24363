package bench

import (
	"context"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

// oneAddress is an upstream that knows one address for every name.
type oneAddress struct{}

func (oneAddress) Exchange(_ context.Context, q upstream.Question) (upstream.Answer, error) {
	m := new(dns.Msg)
	m.SetQuestion(wire.Text(q.Name)+".", q.Type)
	m.Response = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, 1}}}
	packed, err := m.Pack()
	return upstream.Answer{Packed: packed}, err
}

func (oneAddress) Sighted([]byte) bool { return false }

// BenchmarkFast answers queries in batches of 32 from 10,000 cached or blocked names, a million being
// listed. One operation is one query.
func BenchmarkFast(b *testing.B) {
	v := shared(b).view
	store, err := cache.New(64 << 20)
	if err != nil {
		b.Fatal(err)
	}
	r, err := resolver.New(resolver.Config{
		Set: blocklist.NewSet(v), Cache: store, Upstreams: oneAddress{},
		Clients:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
		PageIPv4: netip.MustParseAddr("192.0.2.66"), StructuredOption: 65001,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	w := r.NewWorker()
	popular, err := Popular(10_000)
	if err != nil {
		b.Fatal(err)
	}
	blocked, err := Blocked(10_000)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("hit", func(b *testing.B) { runFast(b, r, w, popular, false) })
	b.Run("hit with EDNS", func(b *testing.B) { runFast(b, r, w, popular, true) })
	b.Run("block", func(b *testing.B) { runFast(b, r, w, blocked, false) })
	b.Run("block with EDNS", func(b *testing.B) { runFast(b, r, w, blocked, true) })
}

const batchSize = 32

func runFast(b *testing.B, r *resolver.Resolver, w *resolver.Worker, names []string, edns bool) {
	packets := make([][]byte, len(names))
	for i, n := range names {
		m := new(dns.Msg).SetQuestion(n+".", dns.TypeA)
		if edns {
			m.SetEdns0(1232, false)
		}
		packed, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		packets[i] = packed
	}
	batch := make([]wire.Query, batchSize)
	client := netip.MustParseAddr("127.0.0.1")
	for i := range batch {
		batch[i].Out = make([]byte, 0, 2048)
		batch[i].Client = client
	}
	for _, p := range packets { // fills the cache
		one := []wire.Query{{Packet: p, Client: client}}
		if w.Fast(one); one[0].Outcome == wire.Slow {
			r.Slow(context.Background(), &one[0])
		}
	}
	b.ReportAllocs()
	at := 0
	for i := 0; b.Loop(); i++ {
		slot := i % batchSize
		batch[slot].Packet = packets[at]
		if at++; at == len(packets) {
			at = 0
		}
		if slot == batchSize-1 {
			w.Fast(batch)
			if batch[0].Outcome != wire.Answered {
				b.Fatal("a query was not answered by Fast")
			}
		}
	}
}
