package resolver

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

// slowUpstream holds queries until they are released.
type slowUpstream struct {
	mu     sync.Mutex
	holds  func(m *dns.Msg) bool
	record string // the record of the answers
	held   []*dnstest.Query
}

func (s *slowUpstream) handle(q *dnstest.Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds != nil && s.holds(q.Msg) {
		s.held = append(s.held, q)
		return
	}
	dnstest.Answer(s.record)(q)
}

// hold makes the upstream hold the queries that holds accepts, and answer others with record.
func (s *slowUpstream) hold(record string, holds func(m *dns.Msg) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record, s.holds = record, holds
}

// release answers the held queries with record. It holds further queries that holds accepts.
func (s *slowUpstream) release(record string, holds func(m *dns.Msg) bool) {
	s.mu.Lock()
	s.record, s.holds = record, holds
	held := s.held
	s.held = nil
	s.mu.Unlock()
	for _, q := range held {
		dnstest.Answer(record)(q)
	}
}

func (s *slowUpstream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// behind returns a resolver in front of the upstream.
func (s *slowUpstream) behind(t *testing.T) *bench {
	t.Helper()
	u := dnstest.NewUpstream(t, s.handle)
	pool, err := upstream.New(upstream.Config{Endpoints: []transport.Endpoint{{Addr: u.Addr}}})
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, pool.Run)
	return newBench(t, func(c *Config) { c.Upstreams = pool })
}

// addressOf returns the only address in an answer; "" if there is none.
func addressOf(m *dns.Msg) string {
	if m != nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 {
		if a, ok := m.Answer[0].(*dns.A); ok {
			return a.A.String()
		}
	}
	return ""
}

// cachedAddress returns the address that the cache holds for a query, without asking upstream; "" if there is none that is valid.
func (b *bench) cachedAddress(m *dns.Msg) string {
	b.t.Helper()
	packed, err := m.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	batch := []wire.Query{{Packet: packed, Client: netip.MustParseAddr("127.0.0.9")}}
	b.w.Fast(batch)
	if batch[0].Outcome != wire.Answered {
		return ""
	}
	a := new(dns.Msg)
	if err := a.Unpack(batch[0].Out); err != nil {
		b.t.Fatal(err)
	}
	return addressOf(a)
}

// TestAnswerAfterStaleAnswerIsCached checks that an answer that arrives after its client got a stale one is cached, and that another client, who asked for another
// name in the meantime, gets the answer to that name.
func TestAnswerAfterStaleAnswerIsCached(t *testing.T) {
	const old, fresh, other = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	s := &slowUpstream{record: "@ 1 IN A " + old}
	b := s.behind(t)
	slow := query(t, "slow.example", "A")
	if got := addressOf(b.askFrom(netip.MustParseAddr("127.0.0.5"), slow)); got != old {
		t.Fatalf("got %q, want %s", got, old)
	}
	dnstest.Eventually(t, "the answer expires", func() bool { return b.cachedAddress(slow) == "" })
	s.hold("@ 300 IN A "+other, func(m *dns.Msg) bool { return dns.CanonicalName(m.Question[0].Name) == "slow.example." })
	if got := addressOf(b.askFrom(netip.MustParseAddr("127.0.0.5"), slow)); got != old {
		t.Errorf("the client of the slow name got %q, want the stale address %s", got, old)
	}
	if got := addressOf(b.askFrom(netip.MustParseAddr("127.0.0.6"), query(t, "quick.example", "A"))); got != other {
		t.Errorf("the client of the other name got %q, want %s", got, other)
	}
	if s.count() == 0 {
		t.Fatal("the upstream was not asked for the slow name")
	}
	s.release("@ 300 IN A "+fresh, nil)
	dnstest.Eventually(t, "the late answer is cached", func() bool { return b.cachedAddress(slow) == fresh })
}

// TestAnswerAfterFailureIsCached checks that an answer that arrives after its client got SERVFAIL is cached. The question is asked late, because one for the same
// name and type with other flags is on its way before.
func TestAnswerAfterFailureIsCached(t *testing.T) {
	const address = "192.0.2.1"
	const record = "@ 300 IN A " + address
	s := &slowUpstream{holds: func(*dns.Msg) bool { return true }}
	b := s.behind(t)
	plain, signed := query(t, "slow.example", "A"), query(t, "slow.example", "A", "+do")
	var asking sync.WaitGroup
	asking.Go(func() {
		if got := addressOf(b.askFrom(netip.MustParseAddr("127.0.0.5"), plain)); got != address {
			t.Errorf("the first client got %q, want %s", got, address)
		}
	})
	dnstest.Eventually(t, "the question is on its way", func() bool { return s.count() > 0 })
	asked := time.Now()
	asking.Go(func() {
		m := b.askFrom(netip.MustParseAddr("127.0.0.6"), signed)
		if m == nil || m.Rcode != dns.RcodeServerFailure || m.IsEdns0() == nil || len(m.IsEdns0().Option) == 0 {
			t.Errorf("the second client got %v, want SERVFAIL with an extended error", m)
		}
	})
	time.Sleep(2 * time.Second)
	s.release(record, s.holds)
	asking.Wait() // the patience of the second client ends
	if waited := time.Since(asked); waited > patience+1500*time.Millisecond {
		t.Skipf("this machine is too slow: the second client waited %v", waited)
	}
	s.release(record, nil)
	dnstest.Eventually(t, "the late answer is cached", func() bool { return b.cachedAddress(signed) == address })
}
