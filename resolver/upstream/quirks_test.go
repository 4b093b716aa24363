package upstream

import (
	"context"
	"errors"
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

// TestTruncationWithoutTCPDoesNotFailOtherNames checks that names with a truncated answer fail if TCP does not work, and that other names do not fail.
func TestTruncationWithoutTCPDoesNotFailOtherNames(t *testing.T) {
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"TCP refused": func(context.Context) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Err: net.ErrClosed} },
		"TCP silent":  func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			err := largeNames(t, dial, 50*time.Millisecond)
			for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); { // a slow machine may not answer within the patience
				err = largeNames(t, dial, 100*time.Millisecond)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// largeNames sends questions for large and small names in turn to an upstream, with a time limit for each answer, and then probes the upstream.
func largeNames(t *testing.T, dial func(context.Context) (net.Conn, error), patience time.Duration) error {
	t.Helper()
	const clientWaits = 200 * time.Millisecond
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if strings.HasPrefix(strings.ToLower(q.Msg.Question[0].Name), "large") {
			dnstest.Truncate(dnstest.Close())(q)
			return
		}
		dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
	})
	dialEither := func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "tcp" {
			return dial(ctx)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	p := newPoolOf(t, Config{Dial: dialEither, patience: patience, plainAfter: defaultTimeout}, overUDP(u))
	m := p.members[0]
	m.batched = true // by a Sender, too
	for i := range maxStrikes + 2 {
		ctx, cancel := context.WithTimeout(t.Context(), clientWaits)
		if _, err := exchangeWith(p, ctx, question(t, fmt.Sprintf("large%d.example", i))); err == nil {
			t.Error("a truncated answer was accepted")
		}
		cancel()
		if a, err := exchangeWith(p, t.Context(), question(t, fmt.Sprintf("small%d.example", i))); err != nil || wire.Rcode(a.Packed) != wire.Success {
			return fmt.Errorf("a small name: answer %q, %v", a.Packed, err)
		}
	}
	if s := p.Stats().Upstreams[0]; !s.Healthy || s.Retries > 0 {
		return fmt.Errorf("%+v", s)
	}
	// Neither does it keep an upstream down.
	m.health.silent(time.Now(), 1)
	u.Handle(dnstest.Truncate(dnstest.Close()))
	ctx, cancel := context.WithTimeout(t.Context(), clientWaits)
	defer cancel()
	p.probe(ctx, m)
	if m.isDown() {
		return errors.New("a truncated answer to a probe leaves the upstream down")
	}
	return nil
}

// soon repeats a function until one call takes no longer than most. It fails the test after a minute. A slow machine may delay some of the calls.
func soon(t *testing.T, most time.Duration, repeated func() time.Duration) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		took := repeated()
		if took <= most {
			return
		}
		if time.Now().After(end) {
			t.Errorf("it took %v each time, want %v at most", took, most)
			return
		}
	}
}

// Constants of package transport.
const (
	caseStrikes     = 3                      // questions whose case is not echoed over UDP, while TCP gives no answer, until 0x20 is given up
	ednsStrikes     = 3                      // answers in a row to the question without EDNS only, until EDNS is given up
	plainAfterFirst = 250 * time.Millisecond // time after which the question is also sent without EDNS, before the first answer with EDNS
)

func TestUpstreamThatDropsEDNSIsAskedWithoutIt(t *testing.T) {
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Msg.IsEdns0() == nil {
			dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
		}
	})
	for _, endpoint := range []string{overUDP(u), overTCP(u)} {
		t.Run(endpoint[:3], func(t *testing.T) {
			var p *Pool
			timed := func(q Question) time.Duration {
				start := time.Now()
				a, err := exchangeWith(p, t.Context(), q)
				if err != nil || wire.Rcode(a.Packed) != wire.Success || q.DO && a.Authenticated {
					t.Fatalf("%v, authenticated %v, answer %q", err, a.Authenticated, a.Packed)
				}
				return time.Since(start)
			}
			soon(t, time.Second, func() (worst time.Duration) {
				p = newPoolOf(t, Config{patience: defaultTimeout}, endpoint)
				for range ednsStrikes {
					worst = max(worst, timed(question(t, "www.example.org")))
				}
				return worst
			})
			signed := question(t, "www.example.org")
			signed.DO = true
			before, questions := u.Queries(), 0
			for _, q := range []Question{question(t, "www.example.org"), signed} { // what the upstream lacks is remembered
				soon(t, plainAfterFirst/2, func() time.Duration { questions++; return timed(q) })
			}
			if n := u.Queries() - before; n != questions {
				t.Errorf("%d queries for %d questions", n, questions)
			}
		})
	}
}

// An upstream that loses packets must not be treated like one that drops queries with EDNS.
func TestLossIsNotTreatedAsDroppedEDNS(t *testing.T) {
	given := func(patience time.Duration) bool {
		lose := lossy(1, .3, 0)
		u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
			if lose() != never {
				dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
			}
		})
		p := newPoolOf(t, Config{patience: patience}, overUDP(u))
		for i := range 100 {
			exchangeWith(p, t.Context(), question(t, fmt.Sprintf("q%d.example", i)))
		}
		return !via(p).UsesEDNS()
	}
	// A slow machine's answers come after a short patience, too many of them for a loss.
	if given(20*time.Millisecond) && given(80*time.Millisecond) && given(320*time.Millisecond) {
		t.Error("EDNS is no longer used")
	}
}

// withoutQuestion answers with a header only.
func withoutQuestion(rcode int) dnstest.Handler {
	return func(q *dnstest.Query) {
		m := new(dns.Msg).SetRcode(q.Msg, rcode)
		m.Question = nil
		q.Send(m)
	}
}

func TestErrorWithoutQuestionIsAcceptedWhenRepeated(t *testing.T) {
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused} {
		u := dnstest.NewUpstream(t, withoutQuestion(rcode))
		for _, endpoint := range []string{overUDP(u), overTCP(u)} {
			soon(t, 500*time.Millisecond, func() time.Duration {
				before := u.Queries()
				start := time.Now()
				if m, _ := exchange(t, newPool(t, nil, endpoint), "www.example.org"); m.Rcode != rcode {
					t.Errorf("%s: rcode %d, want %d", endpoint, m.Rcode, rcode)
				}
				took := time.Since(start)
				if n := u.Queries() - before; strings.HasPrefix(endpoint, "udp") && n < 2 {
					t.Errorf("rcode %d: accepted after %d queries", rcode, n)
				}
				return took
			})
		}
	}
}

// A single header with an error is not accepted: it may be from an attacker who guessed the ID.
func TestForgedErrorWithoutQuestionIsIgnored(t *testing.T) {
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeRefused} {
		for _, edns := range []bool{true, false} {
			var asked atomic.Int32
			u := dnstest.NewUpstream(t, dnstest.NoEDNS(dnstest.Answer()))
			p := newPool(t, nil, overUDP(u))
			if !edns {
				exchange(t, p, "www.example.org")
			}
			if via(p).UsesEDNS() != edns {
				t.Errorf("EDNS is used: %v, want %v", !edns, edns)
			}
			u.Handle(func(q *dnstest.Query) {
				if asked.Add(1) == 1 {
					withoutQuestion(rcode)(q)
					return
				}
				dnstest.Answer("@ 300 IN A 192.0.2.7")(q)
			})
			if m, _ := exchange(t, p, "www.example.org"); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				t.Errorf("rcode %d, EDNS %v: accepted:\n%v", rcode, edns, m)
			}
		}
	}
}

// If a valid answer lacks the question, the question is sent again over TCP, and fails soon if there is no TCP.
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
			soon(t, 500*time.Millisecond, func() time.Duration {
				start := time.Now()
				if a, err := exchangeWith(newPool(t, nil, endpoint), t.Context(), question(t, "www.example.org")); err == nil {
					t.Errorf("%s: answer %q", endpoint, a.Packed)
				}
				return time.Since(start)
			})
		}
	}
}
