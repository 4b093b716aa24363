package resolver

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/wire"
	"rempart/resolver/upstream"
)

var errDown = errors.New("nothing answers")

// within runs a scenario under virtual time.
func within(t *testing.T, change func(*Config), lines []string, scenario func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, change, lines...)
		scenario(t, b)
		b.r.Close()
	})
}

// want asks m, and fails the test if the answer is not want.
func (b *bench) want(what string, m *dns.Msg, want string) {
	b.t.Helper()
	a, _ := b.ask(m)
	if got := brief(a); got != want {
		b.t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestCachedAnswerAgesAndExpires(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A")
		b.want("first", m, "NOERROR | example.com. 300 IN A 192.0.2.1")
		time.Sleep(100 * time.Second)
		b.want("aged", m, "NOERROR | example.com. 200 IN A 192.0.2.1")
		if b.up.count() != 1 {
			t.Fatalf("asked %v, want one question", b.up.asked)
		}
		time.Sleep(200 * time.Second)
		b.want("expired", m, "NOERROR | example.com. 300 IN A 192.0.2.1")
		if b.up.count() != 2 {
			t.Fatalf("asked %v, want two questions", b.up.asked)
		}
		b.want("another key", query(t, "example.com", "A", "+do"), "NOERROR | example.com. 300 IN A 192.0.2.1 | opt")
		b.want("another key", query(t, "example.com", "A", "+cd"), "NOERROR | example.com. 300 IN A 192.0.2.1")
		if b.up.count() != 4 {
			t.Fatalf("DO and CD share an answer: %v", b.up.asked)
		}
	})
}

func TestNegativeTTLIsMinimumOfSOA(t *testing.T) {
	const soa = "example.com. 3600 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	for _, rc := range []int{dns.RcodeNameError, dns.RcodeSuccess} {
		within(t, nil, nil, func(t *testing.T, b *bench) {
			b.up.set(rcode(rc, soa))
			m := query(t, "no.example.com", "A")
			b.ask(m)
			time.Sleep(20 * time.Second)
			a, fast := b.ask(m)
			if !fast || a.Rcode != rc || a.Ns[0].Header().Ttl != 40 {
				t.Errorf("fast %v: %v", fast, a)
			}
			time.Sleep(40 * time.Second)
			if _, fast := b.ask(m); fast {
				t.Error("the negative answer was cached for longer than the minimum TTL of its SOA")
			}
		})
	}
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(rcode(dns.RcodeNameError))
		b.ask(query(t, "no.example.com", "A"))
		if _, fast := b.ask(query(t, "no.example.com", "A")); fast {
			t.Error("a negative answer without an SOA was cached (RFC 2308 section 5)")
		}
	})
}

func TestStaleAnswerIsServedWhenUpstreamFails(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A", "+edns")
		b.ask(m)
		time.Sleep(time.Hour)
		b.up.set(failing(errDown))
		b.want("the first client", m, "NOERROR | example.com. 30 IN A 192.0.2.1 | opt | Stale Answer")
		n := b.up.count()
		a, fast := b.ask(m)
		if !fast || b.up.count() != n {
			t.Errorf("a failed renewal was tried again at once: fast %v, asked %d times after %d: %s", fast, b.up.count(), n, brief(a))
		}
		time.Sleep(31 * time.Second)
		b.up.set(records("example.com. 300 IN A 192.0.2.2"))
		b.want("when it answers again", m, "NOERROR | example.com. 300 IN A 192.0.2.2 | opt")
	})
}

func TestStaleAnswerIsServedAfterClientTimer(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(rcode(dns.RcodeNameError, "com. 900 IN SOA a.example. b.example. 1 2 3 4 300"))
		m := query(t, "gone.com", "A", "+edns")
		b.ask(m)
		time.Sleep(time.Hour)
		b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
			select {
			case <-time.After(3 * time.Second):
				return records("gone.com. 300 IN A 192.0.2.9")(ctx, q)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		start := time.Now()
		a, _ := b.ask(m)
		if waited := time.Since(start); waited != stalePatience || brief(a) != "NXDOMAIN | com. SOA | opt | Stale NXDOMAIN Answer" {
			t.Errorf("after %v: %s", waited, brief(a))
		}
		time.Sleep(2 * time.Second)
		a, fast := b.ask(m)
		if !fast || brief(a) != "NOERROR | gone.com. 300 IN A 192.0.2.9 | opt" {
			t.Errorf("the late answer was not cached: fast %v, %s", fast, brief(a))
		}
	})
}

func TestStaleAnswerExpiresAfterADay(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A", "+edns")
		b.ask(m)
		time.Sleep(25 * time.Hour)
		b.up.set(failing(errDown))
		b.want("too old", m, "SERVFAIL | opt | No Reachable Authority")
	})
}

func TestFailuresAreCachedBriefly(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(failing(errDown))
		m := query(t, "example.com", "A", "+edns")
		b.want("failure", m, "SERVFAIL | opt | No Reachable Authority")
		b.want("again", m, "SERVFAIL | opt | No Reachable Authority")
		if b.up.count() != 1 {
			t.Errorf("asked %d times within five seconds, want once (RFC 9520)", b.up.count())
		}
		b.up.set(records("@ 300 IN A 192.0.2.1"))
		time.Sleep(5 * time.Second)
		b.want("later", m, "NOERROR | example.com. 300 IN A 192.0.2.1 | opt")
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(failing(upstream.ErrBusy))
		m := query(t, "example.com", "A")
		b.ask(m)
		b.ask(m)
		if b.up.count() != 2 {
			t.Error("ErrBusy was cached as a failure of the name")
		}
	})
}

// TestCachedFailuresEndWithOutage checks that names that failed during an outage are asked for again as soon as an upstream answers any question. If one name
// fails while others are answered, its failure stays cached.
func TestCachedFailuresEndWithOutage(t *testing.T) {
	m, other := query(t, "example.com", "A"), query(t, "other.example", "A")
	const answer = "NOERROR | example.com. 300 IN A 192.0.2.1"
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(failing(errDown))
		b.want("in the outage", m, "SERVFAIL")
		b.up.set(records("@ 300 IN A 192.0.2.1"))
		b.want("another name after the outage", other, "NOERROR | other.example. 300 IN A 192.0.2.1")
		b.want("the name after the outage", m, answer)
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(failing(errDown))
		b.want("in the outage", m, "SERVFAIL")
		b.up.set(records("@ 300 IN A 192.0.2.1"))
		time.Sleep(2 * time.Second)
		b.want("after the outage, without a question for another name", m, answer)
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.ask(m)
		time.Sleep(301 * time.Second)
		b.up.set(failing(errDown))
		b.ask(m) // gets a stale answer, whose renewal fails
		b.up.set(records("@ 300 IN A 192.0.2.2"))
		b.ask(other)
		b.want("after the outage, instead of the stale answer", m, "NOERROR | example.com. 300 IN A 192.0.2.2")
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(func(_ context.Context, q upstream.Question) (*dns.Msg, error) {
			if wire.Text(q.Name) == "example.com" {
				time.Sleep(time.Second)
				return nil, errDown
			}
			return records("@ 300 IN A 192.0.2.1")(t.Context(), q)
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(500 * time.Millisecond)
			b.ask(other)
		}()
		b.want("one name fails", m, "SERVFAIL")
		<-done
		n := b.up.count()
		time.Sleep(3 * time.Second)
		b.want("its failure is cached", m, "SERVFAIL")
		if got := b.up.count(); got != n {
			t.Errorf("the upstream was asked %d more times, want none", got-n)
		}
	})
}

// bogus answers like an upstream whose validation failed.
func bogus(context.Context, upstream.Question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.Rcode = dns.RcodeServerFailure
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus})
	return m, nil
}

func TestUpstreamExtendedErrorsArePassedOn(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(bogus)
		b.want("bogus", query(t, "bogus.example", "A", "+edns"), "SERVFAIL | opt | DNSSEC Bogus")
		b.want("bogus, cached", query(t, "bogus.example", "A", "+edns"), "SERVFAIL | opt | DNSSEC Bogus")
	})
}

// TestStaleAnswerIsNotServedForBogusName checks that a stale answer is not served if validation of the name fails now.
func TestStaleAnswerIsNotServedForBogusName(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A", "+edns")
		b.ask(m)
		time.Sleep(time.Hour)
		b.up.set(bogus)
		b.want("bogus", m, "SERVFAIL | opt | DNSSEC Bogus")
		b.want("bogus, cached", m, "SERVFAIL | opt | DNSSEC Bogus")
	})
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		release := make(chan struct{})
		b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
			<-release
			return records("example.com. 0 IN A 192.0.2.1")(ctx, q)
		})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				b.want("each", query(t, "example.com", "A"), "NOERROR | example.com. 0 IN A 192.0.2.1")
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		if b.up.count() != 1 || b.r.slow.coalesced.Load() != 49 {
			t.Errorf("asked %d times, %d coalesced; want 1 and 49", b.up.count(), b.r.slow.coalesced.Load())
		}
	})
}

func TestPopularNamesAreRenewed(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A")
		for range 4 {
			b.ask(m)
		}
		time.Sleep(280 * time.Second)
		a, fast := b.ask(m) // ask also renews the answer, as a listener does
		if !fast || a.Answer[0].Header().Ttl != 20 || b.up.count() != 2 {
			t.Fatalf("fast %v, asked %d times: %v", fast, b.up.count(), a)
		}
		time.Sleep(100 * time.Second)
		if a, fast := b.ask(m); !fast || a.Answer[0].Header().Ttl != 200 {
			t.Errorf("not renewed: fast %v, %v", fast, a)
		}
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A")
		b.ask(m)
		time.Sleep(280 * time.Second)
		b.ask(m)
		if b.up.count() != 1 {
			t.Error("a name that is rarely asked for was renewed")
		}
	})
}

func TestFailingRenewalIsNotRepeated(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A")
		for range 4 {
			b.ask(m)
		}
		time.Sleep(280 * time.Second)
		b.up.set(rcode(dns.RcodeServerFailure))
		for range 500 {
			b.ask(m)
			time.Sleep(10 * time.Millisecond)
		}
		if n := b.up.count(); n != 2 {
			t.Errorf("asked %d times within five seconds, want once", n-1)
		}
	})
}

func TestTargetsAreJudged(t *testing.T) {
	const chain = "www.shop.example. 300 IN CNAME Evil.example."
	const end = "evil.example. 300 IN A 198.51.100.7"
	const page = "NOERROR | www.shop.example. 30 IN A 192.0.2.66"
	m := func() *dns.Msg { return query(t, "www.shop.example", "A") }

	within(t, nil, []string{"evil.example"}, func(t *testing.T, b *bench) {
		b.up.set(records(chain, end))
		b.want("from upstream", m(), page)
		b.want("from the cache", m(), page)
		b.want("its HTTPS record", query(t, "www.shop.example", "HTTPS", "+sde"), "NOERROR | www.shop.example. SOA | opt | Blocked")
		time.Sleep(time.Hour)
		b.up.set(failing(errDown))
		b.want("stale", m(), page)
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(records(chain, end))
		if a, _ := b.ask(m()); len(a.Answer) != 2 {
			t.Fatalf("answer %v, want two records", a)
		}
		if err := b.set.Replace(view(t, 2, "evil.example")); err != nil {
			t.Fatal(err)
		}
		b.want("a block after it was cached", m(), page)
		if err := b.set.Replace(view(t, 3)); err != nil {
			t.Fatal(err)
		}
		if a, fast := b.ask(m()); !fast || len(a.Answer) != 2 {
			t.Errorf("the block was removed, but the answer does not come from the cache: %v", a)
		}
	})
	within(t, nil, []string{"evil.example", "+www.shop.example"}, func(t *testing.T, b *bench) {
		b.up.set(records(chain, end))
		if a, _ := b.ask(m()); len(a.Answer) != 2 {
			t.Errorf("an allow on the question does not pass the whole answer: %v", a)
		}
	})
	within(t, nil, []string{"evil.example", "+cdn.example"}, func(t *testing.T, b *bench) {
		b.up.set(records("www.shop.example. 300 IN CNAME cdn.example.", "cdn.example. 300 IN CNAME evil.example.", end))
		b.want("an allow on one target does not pass another", m(), page)
	})
	within(t, nil, []string{"evil.example"}, func(t *testing.T, b *bench) {
		b.up.set(records(end, chain))
		b.want("records in another order", m(), page)
		b.up.set(records(chain))
		for range 2 {
			b.want("DS of an alias, which is no zone", query(t, "www.shop.example", "DS"), "NOERROR | www.shop.example. SOA")
		}
		b.up.set(records("www.evil.example. 300 IN CNAME fine.example."))
		for range 2 {
			b.want("DS of a blocked name that is an alias", query(t, "www.evil.example", "DNSKEY"), "NOERROR | evil.example. SOA")
		}
	})
	within(t, nil, []string{"=evil.example"}, func(t *testing.T, b *bench) {
		b.up.set(records("shop.example. 300 IN DNAME evil.example.", "www.shop.example. 300 IN CNAME www.evil.example.", "www.evil.example. 300 IN A 192.0.2.1"))
		if a, _ := b.ask(m()); len(a.Answer) != 3 {
			t.Errorf("blocked because of the target of a DNAME, although no client connects to that name: %v", a)
		}
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(records("@ 300 IN A 192.0.2.1", "foreign.example. 300 IN A 192.0.2.2"))
		b.want("a record that does not belong", query(t, "example.com", "A"), "NOERROR | example.com. 300 IN A 192.0.2.1")
	})
	within(t, nil, []string{"evil.example"}, func(t *testing.T, b *bench) {
		b.up.set(records("shop.example. 300 IN HTTPS 0 evil.example."))
		b.want("a target of HTTPS", query(t, "shop.example", "HTTPS"), "NOERROR | shop.example. SOA")
	})
}

// TestAddressesAreJudged checks that an answer with a listed address is replaced (response IP address trigger, draft-vixie-dnsop-dns-rpz section 4.3).
func TestAddressesAreJudged(t *testing.T) {
	const page = "NOERROR | shop.example. 30 IN A 192.0.2.66"
	m := func() *dns.Msg { return query(t, "shop.example", "A") }
	within(t, nil, []string{"198.51.100.0/24", "2001:db8:1::/48"}, func(t *testing.T, b *bench) {
		b.up.set(records("shop.example. 300 IN A 203.0.113.1", "shop.example. 300 IN A 198.51.100.7"))
		b.want("from upstream", m(), page)
		b.want("from the cache", m(), page)
		b.up.set(records("six.example. 300 IN AAAA 2001:db8:1:2::3"))
		b.want("IPv6", query(t, "six.example", "AAAA"), "NOERROR | six.example. 30 IN AAAA 2001:db8::66")
		b.up.set(records(`hint.example. 300 IN HTTPS 1 . alpn=h2 ipv4hint=203.0.113.9,198.51.100.9`))
		b.want("a hint", query(t, "hint.example", "HTTPS"), "NOERROR | hint.example. SOA")
		b.up.set(records("far.example. 300 IN CNAME near.example.", "near.example. 300 IN A 198.51.100.200"))
		b.want("behind an alias", query(t, "far.example", "A"), "NOERROR | far.example. 30 IN A 192.0.2.66")
	})
	within(t, nil, []string{"198.51.100.0/24", "+shop.example"}, func(t *testing.T, b *bench) {
		b.up.set(records("shop.example. 300 IN A 198.51.100.7"))
		b.want("the question is allowed", m(), "NOERROR | shop.example. 300 IN A 198.51.100.7")
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(records("shop.example. 300 IN A 198.51.100.7"))
		b.want("not listed", m(), "NOERROR | shop.example. 300 IN A 198.51.100.7")
		if err := b.set.Replace(view(t, 2, "198.51.100.0/24")); err != nil {
			t.Fatal(err)
		}
		b.want("listed after it was cached", m(), page)
		if err := b.set.Replace(view(t, 3, "198.51.101.0/24")); err != nil {
			t.Fatal(err)
		}
		b.want("not listed any more", m(), "NOERROR | shop.example. 300 IN A 198.51.100.7")
	})
}

func TestBlockOverridesCachedAnswer(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		m := query(t, "example.com", "A")
		b.ask(m)
		if err := b.set.Replace(view(t, 2, "example.com")); err != nil {
			t.Fatal(err)
		}
		b.want("blocked since", m, "NOERROR | example.com. 30 IN A 192.0.2.66")
	})
}

func TestBlockAppliesToWaitingQueries(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
			time.Sleep(time.Second)
			return records("@ 300 IN A 192.0.2.1")(ctx, q)
		})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { b.want("waiting", query(t, "example.com", "A"), "NOERROR | example.com. 30 IN A 192.0.2.66") })
		}
		synctest.Wait()
		if err := b.set.Replace(view(t, 2, "example.com")); err != nil {
			t.Fatal(err)
		}
		all.Wait()
	})
}

func TestClientGetsSERVFAILInTime(t *testing.T) {
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(func(ctx context.Context, _ upstream.Question) (*dns.Msg, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		start := time.Now()
		b.want("no answer", query(t, "example.com", "A", "+edns"), "SERVFAIL | opt | No Reachable Authority")
		if waited := time.Since(start); waited > patience {
			t.Errorf("waited %v, longer than clients wait", waited)
		}
	})
}
