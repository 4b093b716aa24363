package bench

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
)

// BatchSize is the number of queries per call of Fast: the number of queries that it works on at a time.
const BatchSize = 32

var client = netip.MustParseAddr("127.0.0.1")

// oneAddress is an upstream with one address for every name.
type oneAddress struct{}

func (oneAddress) Exchange(_ context.Context, q upstream.Question) (upstream.Answer, error) {
	m := new(dns.Msg)
	m.SetQuestion(wire.Text(q.Name)+".", q.Type)
	m.Response = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, 1}}}
	packed, err := m.Pack()
	return upstream.Answer{Packed: packed}, err
}

func (oneAddress) Sighted([]byte) string { return "" }

// Resolver returns a resolver that filters by v, answers 127.0.0.0/8 among others, and has one address for every name. The caller closes it.
func Resolver(v *blocklist.View) (*resolver.Resolver, error) {
	store, err := cache.New(64 << 20)
	if err != nil {
		return nil, err
	}
	return resolver.New(resolver.Config{
		Set: blocklist.NewSet(v), Cache: store, Upstreams: oneAddress{},
		Clients:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
		PageIPv4: netip.MustParseAddr("192.0.2.66"), StructuredOption: 65001,
	})
}

// Queries returns packed queries for the addresses of names.
func Queries(names []string, edns bool) ([][]byte, error) {
	packets := make([][]byte, len(names))
	for i, n := range names {
		m := new(dns.Msg).SetQuestion(n+".", dns.TypeA)
		if edns {
			m.SetEdns0(1232, false)
		}
		var err error
		if packets[i], err = m.Pack(); err != nil {
			return nil, err
		}
	}
	return packets, nil
}

// Batch returns a batch for packets, with room for their answers.
func Batch() []wire.Query {
	batch := make([]wire.Query, BatchSize)
	for i := range batch {
		batch[i].Out = make([]byte, 0, 2048)
		batch[i].Client = client
	}
	return batch
}

// Warm answers every packet once, so that r's cache contains the names that are not blocked.
func Warm(r *resolver.Resolver, w *resolver.Worker, packets [][]byte) {
	for _, p := range packets {
		one := []wire.Query{{Packet: p, Client: client}}
		if w.Fast(one); one[0].Outcome == wire.Slow {
			r.Slow(context.Background(), &one[0])
		}
	}
}
