package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/dnstest/hostile"
	"rempart/internal/wire"
	"rempart/resolver/listen"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

const (
	// longTests is the environment variable that makes TestHostileUpstreams ask for every behaviour.
	longTests = "REMPART_LONG_TESTS"

	hostileGroups = 49               // groups of behaviours; each group has an upstream and a resolver of its own
	maxAtOnce     = 250              // questions to one resolver; it accepts slightly more connections of one client
	inTime        = 20 * time.Second // how long an answer may take: 4 s, and more on a slow machine
)

// TestHostileUpstreams asks for names that an upstream answers in every wrong way, over sockets, from one client and from five at once. Every client gets an
// answer in time that holds only what was asked for, and other names are answered correctly at the same time.
func TestHostileUpstreams(t *testing.T) {
	if byForward {
		t.Skip("the servers of this test forward in the first run already")
	}
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) { // its cleanup ends before goroutines are counted
		ctx, end := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for _, protocol := range []transport.Protocol{transport.UDP, transport.TCP} {
			for i, group := range hostileGroupsOf(hostileGroups, protocol) {
				for _, clients := range []int{1, 5} {
					u := dnstest.NewUpstream(t, hostile.ByName(group))
					h := hostileRun{t: t, dns: startForwarder(ctx, t, transport.Endpoint{Protocol: protocol, Addr: u.Addr}), what: fmt.Sprintf("%d-%v-%d", i, protocol, clients)}
					atOnce := i == 0 && protocol == transport.UDP
					asking.Go(func() { h.askAll(group, clients, atOnce) })
				}
			}
		}
		asking.Wait()
		end() // all forwarders at once
	})
	dnstest.Eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// hostileGroupsOf returns the behaviours in n groups, each with some of each kind. Over UDP the first group holds the silent behaviours: they are asked for
// at once, because one after the other they would take minutes.
func hostileGroupsOf(n int, protocol transport.Protocol) [][]hostile.Behaviour {
	groups := make([][]hostile.Behaviour, n)
	for i, b := range hostile.Behaviours(os.Getenv(longTests) != "") {
		group := &groups[1+i%(n-1)]
		if b.Silent && protocol == transport.UDP {
			group = &groups[0]
		}
		*group = append(*group, b)
	}
	return groups
}

// askAll makes clients ask for each behaviour, over UDP and TCP, one after the other or at once.
func (h *hostileRun) askAll(behaviours []hostile.Behaviour, clients int, atOnce bool) {
	var asking, sound sync.WaitGroup
	var over atomic.Bool
	places := make(chan struct{}, maxAtOnce)
	sound.Go(func() {
		for i := 0; !over.Load(); i++ {
			h.ask("udp", fmt.Sprintf("sound%d.example", i), dns.TypeA, hostile.OutcomeRight)
			time.Sleep(50 * time.Millisecond) // leave time for the other questions
		}
	})
	for client := range clients {
		asking.Go(func() {
			for i, b := range behaviours {
				network := []string{"udp", "tcp"}[(i+client)%2]
				ask := func() {
					h.ask(network, fmt.Sprintf("client%d-%s.%s.hostile.example", client, h.what, b.Name), b.Type, b.Outcome)
				}
				if !atOnce {
					ask()
					continue
				}
				places <- struct{}{}
				asking.Go(func() {
					ask()
					<-places
				})
			}
		})
	}
	asking.Wait()
	over.Store(true)
	sound.Wait()
	for _, name := range []string{hostile.PoisonName, "example.", "ns." + hostile.PoisonName} {
		h.ask("udp", name, dns.TypeA, hostile.OutcomeRight)
	}
}

// startForwarder serves a resolver in front of an upstream until ctx or the test ends, and returns the address of the server.
func startForwarder(ctx context.Context, t testing.TB, e transport.Endpoint) string {
	t.Helper()
	pool, err := upstream.New(upstream.Config{Endpoints: []transport.Endpoint{e}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) { c.Upstreams = pool })
	s, err := listen.New(listen.Config{
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Workers: 1, NewHandler: func() listen.Handler { return b.r.NewWorker() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{pool.Run, s.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return s.Addrs()[0].String()
}

// hostileRun asks one server.
type hostileRun struct {
	t    testing.TB
	dns  string
	what string // the group, the protocol of the upstream and the number of clients: a part of names
}

// ask asks as a stub resolver does, and checks the answer.
func (h *hostileRun) ask(network, name string, typ uint16, want hostile.Outcome) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
	q.SetEdns0(1232, false)
	begin := time.Now()
	m, err := h.exchange(network, q)
	if err == nil {
		err = checkAnswer(m, q)
	}
	rightly := err == nil && m.Rcode == dns.RcodeSuccess && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		a, ok := rr.(*dns.A)
		return ok && a.A.String() == hostile.RightAddress
	})
	switch {
	case err != nil:
	case want == hostile.OutcomeRight && !rightly:
		err = errors.New("not the right answer")
	case want == hostile.OutcomeFailure && m.Rcode != dns.RcodeServerFailure:
		err = errors.New("no SERVFAIL")
	case time.Since(begin) > inTime:
		err = fmt.Errorf("the answer took %v", time.Since(begin))
	}
	if err != nil {
		h.t.Errorf("%s: %s over %s: %v\n%v", h.what, name, network, err, m)
	}
}

// exchange returns the answer to q. It returns an error if there is no answer, or if the answer cannot be read.
func (h *hostileRun) exchange(network string, q *dns.Msg) (*dns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	raw, err := dnstest.ExchangePacked(network, h.dns, packed)
	if err == nil && network == "udp" && len(raw) > wire.HeaderLen && wire.Flags(raw)&wire.FlagTC != 0 {
		raw, err = dnstest.ExchangePacked("tcp", h.dns, packed)
	}
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		return m, err
	}
	records := wire.ReadRecords(raw)
	for rr := (wire.Record{}); records.Next(&rr); {
	}
	if records.Malformed() || records.Offset() != len(raw) {
		return m, errors.New("bytes after the last record")
	}
	return m, nil
}

// checkAnswer returns an error if m cannot be a correct answer to q, a question without DO.
func checkAnswer(m, q *dns.Msg) error {
	switch {
	case m.Id != q.Id || !m.Response || m.Opcode != dns.OpcodeQuery || m.Truncated || m.Authoritative || !m.RecursionAvailable:
		return errors.New("a wrong header")
	case len(m.Question) != 1 || m.Question[0] != q.Question[0]:
		return errors.New("a wrong question")
	case !slices.Contains([]int{dns.RcodeSuccess, dns.RcodeServerFailure, dns.RcodeNameError, dns.RcodeYXDomain}, m.Rcode):
		return errors.New("an unexpected rcode")
	case m.Rcode == dns.RcodeServerFailure && len(m.Answer)+len(m.Ns) > 0:
		return errors.New("SERVFAIL with records")
	case len(m.Extra) != 1 || m.IsEdns0() == nil:
		return errors.New("additional records other than OPT")
	}
	for _, rr := range m.Ns {
		if t := rr.Header().Rrtype; t != dns.TypeSOA && t != dns.TypeNS {
			return fmt.Errorf("an unexpected record in the authority section: %v", rr)
		}
	}
	return checkRecords(m)
}

// checkRecords checks that the answer section holds only aliases and records of the asked type, and that each owner is the name in the question or the
// target of an alias.
func checkRecords(m *dns.Msg) error {
	asked := m.Question[0]
	names := []string{strings.ToLower(asked.Name)}
	for i := 0; i < len(names) && asked.Qtype != dns.TypeCNAME; i++ {
		if slices.Contains(names[:i], names[i]) {
			if names[i] == names[0] || len(names) > len(m.Answer)+1 {
				return errors.New("a loop of aliases")
			}
			continue
		}
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, names[i]) {
				names = append(names, strings.ToLower(c.Target))
			}
		}
	}
	for _, rr := range m.Answer {
		h := rr.Header()
		owns := slices.ContainsFunc(names, func(name string) bool {
			owner := strings.ToLower(h.Name)
			if owner == name {
				return h.Rrtype == asked.Qtype || h.Rrtype == dns.TypeCNAME
			}
			return h.Rrtype == dns.TypeDNAME && dns.IsSubDomain(owner, name)
		})
		a, isA := rr.(*dns.A)
		switch {
		case !owns || h.Class != dns.ClassINET:
			return fmt.Errorf("a record that was not asked for: %v", rr)
		case isA && a.A.Equal(net.ParseIP(hostile.PoisonAddress)):
			return fmt.Errorf("a record with the poison address: %v", rr)
		case h.Ttl > 86400:
			return fmt.Errorf("a TTL of more than a day: %v", rr)
		}
	}
	return nil
}
