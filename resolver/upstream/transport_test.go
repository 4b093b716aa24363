package upstream

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// via returns the transport to the first upstream of p.
func via(p *Pool) *transport.Transport { return p.members[0].via.(*transport.Transport) }

// TestDuplicateUpstreamIsUsedOnce checks that a repeated endpoint is ignored, because the metrics of two equal upstreams would collide.
func TestDuplicateUpstreamIsUsedOnce(t *testing.T) {
	e, err := transport.ParseEndpoint("udp://192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Endpoints: []transport.Endpoint{e, e}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Stats().Upstreams); n != 1 {
		t.Errorf("%d upstreams, want 1", n)
	}
}

func TestCaseNotEchoed(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.LowerCase(dnstest.Answer("@ 300 IN A 192.0.2.7")))
	p := newPool(t, nil, overUDP(u))
	const name = "a-long-enough-name-to-be-mixed.example.org"
	exchange(t, p, name)
	if u.Queries("udp") != 1 || u.Queries("tcp") != 1 {
		t.Fatalf("%d queries over UDP, %d over TCP; want one each", u.Queries("udp"), u.Queries("tcp"))
	}
	exchange(t, p, name)
	if u.Queries("udp") != 2 || u.Queries("tcp") != 1 {
		t.Errorf("%d queries over UDP, %d over TCP; want the second query over UDP only", u.Queries("udp"), u.Queries("tcp"))
	}
	if got := u.Last().Msg.Question[0].Name; got != name+"." {
		t.Errorf("the question was %q: 0x20 is still in use", got)
	}
}

// TestForgedLowerCaseAnswersKeep0x20 checks that 0x20 stays in use after many answers over UDP that do not echo the case, if the answers over TCP echo it: the
// answers over UDP may be forged.
func TestForgedLowerCaseAnswersKeep0x20(t *testing.T) {
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Network == "udp" {
			dnstest.LowerCase(dnstest.Answer())(q)
			return
		}
		dnstest.Answer()(q)
	})
	p := newPool(t, nil, overUDP(u))
	const name = "a-long-enough-name-to-be-mixed.example.org"
	for range 3 * caseStrikes {
		exchange(t, p, name)
	}
	if !via(p).MixesCase() {
		t.Error("0x20 was given up although TCP echoes the case")
	}
	if got := u.Queries("tcp"); got != 3*caseStrikes {
		t.Errorf("%d queries over TCP, want %d", got, 3*caseStrikes)
	}
}

// TestCaseNotEchoedWithoutTCP asks an upstream that answers in lower case and refuses TCP connections.
func TestCaseNotEchoedWithoutTCP(t *testing.T) {
	addr := udpOnly(t, func(m *dns.Msg) *dns.Msg {
		r := new(dns.Msg).SetReply(m)
		r.Question[0].Name = dns.CanonicalName(r.Question[0].Name)
		return r
	})
	p := newPool(t, nil, "udp://"+addr)
	const name = "a-long-enough-name-to-be-mixed.example.org"
	for i := 1; i < caseStrikes; i++ {
		if _, err := exchangeWith(p, t.Context(), question(t, name)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("after %d answers that may be forged: %v", i, err)
		}
		if !via(p).MixesCase() {
			t.Errorf("0x20 was given up after %d strikes", i)
		}
	}
	for range 3 {
		exchange(t, p, name)
	}
	if !p.Stats().Upstreams[0].Healthy {
		t.Error("the upstream is still unhealthy")
	}
}

// TestCaseNotEchoedWithSilentTCP asks an upstream that answers in lower case over UDP and never over TCP. Each client gives up before the attempt over TCP
// fails; the attempt must nevertheless be a strike.
func TestCaseNotEchoedWithSilentTCP(t *testing.T) {
	var giveUp atomic.Pointer[context.CancelFunc]
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Network == "udp" {
			dnstest.LowerCase(dnstest.Answer())(q)
			return
		}
		(*giveUp.Load())()
	})
	p := newPool(t, nil, overUDP(u))
	q := transport.Request{Question: question(t, "a-long-enough-name-to-be-mixed.example.org")}
	for i := range caseStrikes {
		if !via(p).MixesCase() {
			t.Errorf("0x20 was given up after %d strikes", i)
		}
		ctx, cancel := context.WithCancel(t.Context())
		giveUp.Store(&cancel)
		if _, err := via(p).Exchange(ctx, &q); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		cancel()
	}
	exchange(t, p, "a-long-enough-name-to-be-mixed.example.org")
}

// udpOnly starts an upstream that answers over UDP and refuses TCP connections. It returns the address.
func udpOnly(t *testing.T, answer func(*dns.Msg) *dns.Msg) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", dnstest.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		var buf [4096]byte
		for {
			n, from, err := conn.ReadFrom(buf[:])
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			if packed, err := answer(m).Pack(); err == nil {
				conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func TestWithoutEDNS(t *testing.T) {
	for _, handler := range []dnstest.Handler{
		dnstest.NoEDNS(dnstest.Answer("@ 300 IN A 192.0.2.7")),
		func(q *dnstest.Query) { // some old servers answer with a header only
			if q.Msg.IsEdns0() == nil {
				dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
				return
			}
			m := new(dns.Msg).SetRcode(q.Msg, dns.RcodeNotImplemented)
			m.Question = nil
			q.Send(m)
		},
	} {
		u := dnstest.NewUpstream(t, handler)
		p := newPool(t, nil, overUDP(u))
		for i, want := range []int{2, 3} { // the second question is sent without EDNS at once
			if m, _ := exchange(t, p, "www.example.org"); len(m.Answer) != 1 {
				t.Errorf("answer:\n%v", m)
			}
			if got := u.Queries(); got != want {
				t.Errorf("%d queries after question %d, want %d", got, i+1, want)
			}
		}
		q := question(t, "www.example.org")
		q.DO = true
		a, err := exchangeWith(p, t.Context(), q)
		if err != nil || wire.Rcode(a.Packed) != wire.Success || a.Authenticated {
			t.Errorf("a question for DNSSEC records: %v, authenticated %v, answer %q", err, a.Authenticated, a.Packed)
		}
		if got := u.Queries(); got != 5 {
			t.Errorf("%d queries, want 5: the last question is sent with EDNS, then without", got)
		}
	}
}

// TestDeclinedTypesKeepUpstreamHealthy checks answers of home routers to a query for a type that they do not support: an error without an OPT, with or without
// the question. Such an answer does not show that the upstream lacks EDNS or is unhealthy.
func TestDeclinedTypesKeepUpstreamHealthy(t *testing.T) {
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		for _, headerOnly := range []bool{true, false} {
			for _, network := range []string{"udp", "tcp"} {
				u := dnstest.NewUpstream(t, declineHTTPS(rcode, headerOnly))
				p := newPool(t, nil, network+"://"+u.Addr.String())
				q := question(t, "www.example.org")
				q.Type = wire.TypeHTTPS
				for i := range 2 * maxStrikes {
					q.DO = i%2 == 0
					a, err := exchangeWith(p, t.Context(), q)
					if err != nil {
						t.Fatalf("%s over %s, header only %v: %v", dns.RcodeToString[rcode], network, headerOnly, err)
					}
					m := new(dns.Msg)
					if err := m.Unpack(a.Packed); err != nil {
						t.Fatal(err)
					}
					want := []dns.Question{{Name: "www.example.org.", Qtype: dns.TypeHTTPS, Qclass: dns.ClassINET}}
					if diff := cmp.Diff(want, m.Question); m.Rcode != rcode || !m.Response || diff != "" {
						t.Fatalf("answer:\n%v\nquestion (-want +got):\n%s", m, diff)
					}
				}
				if s := p.Stats().Upstreams[0]; !s.Healthy || s.Failures[transport.Malformed] != 0 || s.Failures[transport.Rcode] != 2*maxStrikes {
					t.Errorf("upstream %+v, want a healthy one with %d failures by rcode and none by malformed answers", s, 2*maxStrikes)
				}
				exchange(t, p, "www.example.org")
				if u.Last().Msg.IsEdns0() == nil {
					t.Error("EDNS was given up because of a type that the upstream does not support")
				}
			}
		}
	}
}

// declineHTTPS answers queries for HTTPS records with rcode, without the question if headerOnly is set. It answers other queries normally.
func declineHTTPS(rcode int, headerOnly bool) dnstest.Handler {
	return func(q *dnstest.Query) {
		if q.Msg.Question[0].Qtype != dns.TypeHTTPS {
			dnstest.Answer()(q)
			return
		}
		m := new(dns.Msg).SetRcode(q.Msg, rcode)
		if headerOnly {
			m.Question = nil
		}
		q.Send(m)
	}
}

// TestUpstreamDecliningEveryTypeIsUnhealthy checks that an upstream is unhealthy if it answers NOTIMP even for types that every resolver supports.
func TestUpstreamDecliningEveryTypeIsUnhealthy(t *testing.T) {
	first, second := &fake{rcode: wire.NotImp, delay: after(time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		for range 2 * maxStrikes {
			ask(t, p)
		}
		if n, _ := first.counts(); n != maxStrikes {
			t.Errorf("the upstream that declines was asked %d times, want %d", n, maxStrikes)
		}
	})
}
