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
	"rempart/internal/wire"
)

// TestTruncationWithoutTCPLeavesUDPAlone: a name whose answer is truncated fails where TCP does not work, and no other does.
func TestTruncationWithoutTCPLeavesUDPAlone(t *testing.T) {
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"refused": func(context.Context) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Err: net.ErrClosed} },
		"silent":  func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
				if strings.HasPrefix(strings.ToLower(q.Msg.Question[0].Name), "large") {
					dnstest.Truncate(dnstest.Close())(q)
					return
				}
				dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
			})
			p := newPool(t, nil, overUDP(u))
			m := p.members[0]
			m.health.fixed = 50 * time.Millisecond
			m.via.(*transport).stream.dial = dial
			for i := range maxStrikes + 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				if _, err := p.Exchange(ctx, question(t, fmt.Sprintf("large%d.example", i))); err == nil {
					t.Error("a truncated answer was taken")
				}
				cancel()
				exchange(t, p, fmt.Sprintf("small%d.example", i))
			}
			if s := p.Stats().Upstreams[0]; !s.Healthy || s.Retries > 0 {
				t.Errorf("%+v", s)
			}
			// Neither does it keep an upstream down.
			m.health.silent(time.Now(), 1)
			u.Handle(dnstest.Truncate(dnstest.Close()))
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			p.probe(ctx, m)
			if m.isDown() {
				t.Error("a truncated answer to a probe leaves the upstream down")
			}
		})
	}
}

// dropEDNS leaves queries with an OPT unanswered, while on.
func dropEDNS(on *atomic.Bool, h dnstest.Handler) dnstest.Handler {
	return func(q *dnstest.Query) {
		if on.Load() && q.Msg.IsEdns0() != nil {
			return
		}
		h(q)
	}
}

func TestSilentToEDNS(t *testing.T) {
	var on atomic.Bool
	on.Store(true)
	u := dnstest.NewUpstream(t, dropEDNS(&on, dnstest.Answer("@ 300 IN A 192.0.2.7")))
	for _, endpoint := range []string{overUDP(u), overTCP(u)} {
		t.Run(endpoint[:3], func(t *testing.T) {
			p := newPool(t, nil, endpoint)
			timed := func(q Question) time.Duration {
				start := time.Now()
				a, err := p.Exchange(t.Context(), q)
				if err != nil || wire.Rcode(a.Packed) != wire.Success || q.DO && a.Authenticated {
					t.Fatalf("%v, authenticated %v, answer %q", err, a.Authenticated, a.Packed)
				}
				return time.Since(start)
			}
			for range ednsStrikes {
				if took := timed(question(t, "www.example.org")); took > time.Second {
					t.Errorf("answered after %v", took)
				}
			}
			signed := question(t, "www.example.org")
			signed.DO = true
			before := u.Queries()
			for _, q := range []Question{question(t, "www.example.org"), signed} {
				if took := timed(q); took > plainAfterFirst/2 {
					t.Errorf("answered after %v, with DO %v: what the upstream lacks was not remembered", took, q.DO)
				}
			}
			if n := u.Queries() - before; n != 2 {
				t.Errorf("%d queries for 2 questions", n)
			}
			// It is asked again later: then one silence is enough.
			via := p.members[0].via.(*transport)
			via.dropEDNS.forget()
			timed(question(t, "www.example.org"))
			if !via.dropEDNS.active() {
				t.Error("EDNS was tried again, and not given up again")
			}
			via.dropEDNS.forget()
			on.Store(false)
			defer on.Store(true)
			timed(question(t, "www.example.org"))
			if via.dropEDNS.active() || !via.hasEDNS.active() {
				t.Error("EDNS was not taken up again")
			}
		})
	}
}

// An upstream that loses packets is not taken for one that drops EDNS.
func TestLossIsNotSilenceToEDNS(t *testing.T) {
	lose := lossy(1, .3, 0)
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if lose() != never {
			dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
		}
	})
	p := newPool(t, nil, overUDP(u))
	p.members[0].health.fixed = 20 * time.Millisecond
	for i := range 100 {
		p.Exchange(t.Context(), question(t, fmt.Sprintf("q%d.example", i)))
	}
	if p.members[0].via.(*transport).dropEDNS.active() {
		t.Error("EDNS was given up")
	}
}

// withoutQuestion answers with a header alone.
func withoutQuestion(rcode int) dnstest.Handler {
	return func(q *dnstest.Query) {
		m := new(dns.Msg).SetRcode(q.Msg, rcode)
		m.Question = nil
		q.Send(m)
	}
}

func TestErrorsWithoutQuestion(t *testing.T) {
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused} {
		u := dnstest.NewUpstream(t, withoutQuestion(rcode))
		for _, endpoint := range []string{overUDP(u), overTCP(u)} {
			before := u.Queries()
			start := time.Now()
			if m, _ := exchange(t, newPool(t, nil, endpoint), "www.example.org"); m.Rcode != rcode {
				t.Errorf("%s: rcode %d, want %d", endpoint, m.Rcode, rcode)
			}
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("%s, rcode %d: after %v", endpoint, rcode, took)
			}
			if n := u.Queries() - before; strings.HasPrefix(endpoint, "udp") && n < 2 {
				t.Errorf("rcode %d: taken after %d queries", rcode, n)
			}
		}
	}
}

// One header with an error, as somebody may send who guessed the ID, is not taken.
func TestForgedErrorWithoutQuestion(t *testing.T) {
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeRefused} {
		for _, edns := range []bool{true, false} {
			var asked atomic.Int32
			u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
				if asked.Add(1) == 1 {
					withoutQuestion(rcode)(q)
					return
				}
				dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
			})
			p := newPool(t, nil, overUDP(u))
			if !edns {
				p.members[0].via.(*transport).noEDNS.believe()
			}
			if m, _ := exchange(t, p, "www.example.org"); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				t.Errorf("rcode %d, EDNS %v: taken:\n%v", rcode, edns, m)
			}
		}
	}
}

// A sound answer without its question is asked for over TCP, and fails soon where there is none.
func TestAnswerWithoutQuestion(t *testing.T) {
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeNameError} {
		u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
			if q.Network == "udp" {
				withoutQuestion(rcode)(q)
				return
			}
			dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
		})
		if m, _ := exchange(t, newPool(t, nil, overUDP(u)), "www.example.org"); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			t.Errorf("answer:\n%v", m)
		}
		addr := udpOnly(t, func(m *dns.Msg) *dns.Msg {
			r := new(dns.Msg).SetRcode(m, rcode)
			r.Question = nil
			return r
		})
		u.Handle(withoutQuestion(rcode))
		for _, endpoint := range []string{"udp://" + addr, overTCP(u)} {
			start := time.Now()
			if a, err := newPool(t, nil, endpoint).Exchange(t.Context(), question(t, "www.example.org")); err == nil {
				t.Errorf("%s: answer %q", endpoint, a.Packed)
			}
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("%s: after %v", endpoint, took)
			}
		}
	}
}
