package bench

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/grant"
	"rempart/internal/secret"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/cookie"
	"rempart/resolver/limits"
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
	return newResolver(v, resolver.Grants{})
}

// probeZone is the default of REMPART_PROBE, canonical.
const probeZone = "\x05probe\x07rempart\x08internal\x00"

func newResolver(v *blocklist.View, g resolver.Grants) (*resolver.Resolver, error) {
	store, err := cache.New(64 << 20)
	if err != nil {
		return nil, err
	}
	secrets := cookie.Of(secret.Random())
	return resolver.New(resolver.Config{
		Set: blocklist.NewSet(v), Cache: store, Upstreams: oneAddress{},
		Clients:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
		PageIPv4: netip.MustParseAddr("192.0.2.66"), Probe: []byte(probeZone), Grants: g, StructuredOption: 65001, Cookies: func() *cookie.Secrets { return secrets },
	})
}

// ContinuingResolver returns a resolver as Resolver does, whose clients may continue to every blocked name. In each of 4,000 networks, one client has a grant for
// the blocked name; the client of Batch has one only if own is set.
func ContinuingResolver(v *blocklist.View, blocked string, own bool) (*resolver.Resolver, error) {
	secrets := grant.Random()
	r, err := newResolver(v, resolver.Grants{
		Blocks: blocklist.Continuable{Categories: blocklist.AllCategories}, Duration: time.Hour, Secrets: func() *grant.Secrets { return secrets },
	})
	if err != nil {
		return nil, err
	}
	name, err := wire.AppendName(nil, blocked)
	if err != nil {
		return nil, err
	}
	w, zone, now := r.NewWorker(), grant.NewZone([]byte(probeZone)), time.Now().Unix()
	clients := []netip.Addr{}
	for i := range 4000 {
		clients = append(clients, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}))
	}
	if own {
		clients = append(clients, client)
	}
	for _, c := range clients {
		packets, err := Queries([]string{wire.Text(zone.GoName(secrets.Token(name, c, now), name))}, false)
		if err != nil {
			return nil, err
		}
		Warm(r, w, c, packets)
	}
	return r, nil
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

// Warm answers every packet once to the client from, so that r holds their results: the answers for names that are not blocked, and grants.
func Warm(r *resolver.Resolver, w *resolver.Worker, from netip.Addr, packets [][]byte) {
	for _, p := range packets {
		one := []wire.Query{{Packet: p, Client: from}}
		if w.Fast(one); one[0].Outcome == wire.Slow {
			r.Slow(context.Background(), &one[0])
		}
	}
}

// Spread gives the queries of a batch clients in other networks, one after the other, at most 65,536; n is the number of the batch.
func Spread(batch []wire.Query, n, networks int) {
	for i := range batch {
		network := (n*len(batch) + i) % networks
		batch[i].Client = netip.AddrFrom4([4]byte{10, byte(network >> 8), byte(network), 1})
	}
}

// Limiter returns a limiter with the default limits, which apply to every client.
func Limiter() *limits.Limiter {
	return limits.New(limits.Config{Limits: []limits.Limit{
		{Clients: netip.MustParsePrefix("0.0.0.0/0"), Bytes: 256 << 10, Answers: 1_000_000}, {Clients: netip.MustParsePrefix("::/0"), Bytes: 256 << 10, Answers: 1_000_000},
	}})
}

// Limited does for a batch what a UDP listener does between receiving and sending: Fast, then the limits.
func Limited(w *resolver.Worker, l *limits.Limiter, batch []wire.Query) {
	w.Fast(batch)
	now := l.Now()
	l.Count(batch, now)
	for i := range batch {
		l.Weigh(&batch[i], now)
	}
}

// WithCookies returns the packets with a DNS cookie each: that of the answer that w gives to the client of Batch, or a client cookie alone.
func WithCookies(w *resolver.Worker, packets [][]byte, valid bool) ([][]byte, error) {
	with := make([][]byte, len(packets))
	value := "0123456789abcdef"
	for i := range packets {
		var m dns.Msg
		if err := m.Unpack(packets[i]); err != nil {
			return nil, err
		}
		own := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: value}
		m.IsEdns0().Option = append(m.IsEdns0().Option, own)
		var err error
		if with[i], err = m.Pack(); err != nil {
			return nil, err
		}
		if !valid || i > 0 {
			continue
		}
		one := []wire.Query{{Packet: with[i], Client: client}}
		w.Fast(one)
		value = fmt.Sprintf("%x", one[0].AnswerCookie())
		own.Cookie = value
		if with[i], err = m.Pack(); err != nil {
			return nil, err
		}
	}
	return with, nil
}
