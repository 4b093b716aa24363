package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// phoneBook is a Lookup whose answers a test changes.
type phoneBook struct {
	mu    sync.Mutex
	addrs map[string][]string
	ttl   time.Duration
	calls []time.Time
}

func (b *phoneBook) set(host string, addrs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[host] = addrs
}

func (b *phoneBook) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

func (b *phoneBook) lookup(_ context.Context, host string) (Addresses, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, time.Now())
	if len(b.addrs[host]) == 0 {
		return Addresses{}, errors.New("it does not exist")
	}
	found := Addresses{TTL: b.ttl}
	for _, a := range b.addrs[host] {
		found.List = append(found.List, netip.MustParseAddr(a))
	}
	return found, nil
}

// muteUpstream is an upstream that does not answer.
type muteUpstream struct{}

func (muteUpstream) Exchange(ctx context.Context, _ *transport.Request) (transport.Reply, error) {
	<-ctx.Done()
	return transport.Reply{}, context.Cause(ctx)
}
func (muteUpstream) Retire() {}

// upstreamsOf returns the names of the upstreams in use.
func upstreamsOf(s *Switch) (names []string) {
	for _, u := range s.Stats().Upstreams {
		names = append(names, u.Upstream)
	}
	return names
}

func parseList(t *testing.T, urls ...string) (list []transport.Endpoint) {
	t.Helper()
	for _, u := range urls {
		e, err := transport.ParseEndpoint(u)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// TestHostsAreLookedUpAgain follows the addresses of a host over an hour: they are renewed when their TTL ends, stay in use while they are valid or cannot be
// looked up, and are never more than maxHostAddresses.
func TestHostsAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &phoneBook{addrs: map[string][]string{}, ttl: 5 * time.Minute}
		s := NewSwitch(Config{open: func(transport.Endpoint) exchanger { return muteUpstream{} }}, book.lookup)
		if _, err := s.Replace(parseList(t, "tls://dns.example", "udp://192.0.2.9")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		want := func(names ...string) {
			t.Helper()
			synctest.Wait()
			if got := upstreamsOf(s); !slices.Equal(got, names) {
				t.Fatalf("after %d lookups the upstreams are %v, want %v", book.count(), got, names)
			}
		}
		want("udp://192.0.2.9") // the name cannot be looked up yet
		if n := book.count(); n != 1 {
			t.Errorf("%d lookups, want 1", n)
		}
		book.set("dns.example", "192.0.2.1", "2001:db8::1")
		time.Sleep(2 * minLookupRetry)
		want("tls://dns.example@192.0.2.1", "tls://dns.example@2001:db8::1", "udp://192.0.2.9")

		before := book.count()
		time.Sleep(book.ttl - time.Minute)
		want("tls://dns.example@192.0.2.1", "tls://dns.example@2001:db8::1", "udp://192.0.2.9")
		if n := book.count() - before; n != 0 {
			t.Errorf("%d lookups before the end of the TTL, want none", n)
		}
		pool := s.current.Load()
		book.set("dns.example", "2001:db8::1", "192.0.2.1") // in another order
		time.Sleep(2 * time.Minute)
		want("tls://dns.example@192.0.2.1", "tls://dns.example@2001:db8::1", "udp://192.0.2.9")
		if s.current.Load() != pool {
			t.Error("the pool was replaced, although the addresses are the same")
		}
		book.set("dns.example", "192.0.2.5", "192.0.2.4", "192.0.2.1", "192.0.2.3", "192.0.2.2")
		time.Sleep(book.ttl)
		want("tls://dns.example@192.0.2.1", "tls://dns.example@192.0.2.5", "tls://dns.example@192.0.2.4", "tls://dns.example@192.0.2.3", "udp://192.0.2.9")
		book.set("dns.example")
		time.Sleep(time.Hour)
		want("tls://dns.example@192.0.2.1", "tls://dns.example@192.0.2.5", "tls://dns.example@192.0.2.4", "tls://dns.example@192.0.2.3", "udp://192.0.2.9")
		before = book.count()
		time.Sleep(10 * maxLookupRetry)
		if n := book.count() - before; n < 5 || n > 25 {
			t.Errorf("%d lookups in ten minutes of failures, want about ten", n)
		}
		cancel()
		<-done
	})
}

// TestHostWithoutAddressIsLookedUpSoonAfterLongOutage checks that a host which could not be looked up for ten minutes after the start is in use a few seconds after
// the lookup works: until then, clients have no DNS.
func TestHostWithoutAddressIsLookedUpSoonAfterLongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &phoneBook{addrs: map[string][]string{}, ttl: time.Hour}
		s := NewSwitch(Config{open: func(transport.Endpoint) exchanger { return muteUpstream{} }}, book.lookup)
		if _, err := s.Replace(parseList(t, "tls://dns.example")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		book.set("dns.example", "192.0.2.1")
		time.Sleep(maxFirstRetry * 5 / 4)
		synctest.Wait()
		if got, want := upstreamsOf(s), []string{"tls://dns.example@192.0.2.1"}; !slices.Equal(got, want) {
			t.Errorf("upstreams %v, want %v", got, want)
		}
		cancel()
		<-done
	})
}

// countedUpstream is a muteUpstream that counts questions.
type countedUpstream struct {
	muteUpstream
	questions *atomic.Int32
}

func (u countedUpstream) Exchange(ctx context.Context, q *transport.Request) (transport.Reply, error) {
	u.questions.Add(1)
	return u.muteUpstream.Exchange(ctx, q)
}

// TestReplacedPoolsAreNotMonitored checks that a Switch whose hosts are looked up one after the other, so that each lookup makes a new pool, checks each upstream in
// the last pool only.
func TestReplacedPoolsAreNotMonitored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var questions, lookups atomic.Int32
		s := NewSwitch(Config{open: func(transport.Endpoint) exchanger { return countedUpstream{questions: &questions} }}, func(context.Context, string) (Addresses, error) {
			n := lookups.Add(1)
			time.Sleep(time.Duration(n) * time.Millisecond)
			return Addresses{[]netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}, time.Hour}, nil
		})
		const hosts = 20
		var urls []string
		for i := range hosts {
			urls = append(urls, fmt.Sprintf("tls://h%d.example", i))
		}
		if _, err := s.Replace(parseList(t, urls...)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2 * time.Second)
		if n := len(upstreamsOf(s)); n != hosts {
			t.Errorf("%d upstreams, want %d", n, hosts)
		}
		if n := questions.Load(); n != hosts {
			t.Errorf("%d questions to check for loops, want %d", n, hosts)
		}
		cancel()
		<-done
	})
}

// TestHostIsLookedUpAgainWhenItIsDown checks that a host whose addresses are all down is looked up before the end of a long TTL.
func TestHostIsLookedUpAgainWhenItIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &phoneBook{addrs: map[string][]string{"dns.example": {"192.0.2.1"}}, ttl: 12 * time.Hour}
		s := NewSwitch(Config{open: func(transport.Endpoint) exchanger { return muteUpstream{} }}, book.lookup)
		if _, err := s.Replace(parseList(t, "https://dns.example/dns-query")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		s.Exchange(t.Context(), question(t, "www.example"))
		book.set("dns.example", "192.0.2.2")
		time.Sleep(2 * outageCheck)
		synctest.Wait()
		if got, want := upstreamsOf(s), []string{"https://dns.example/dns-query@192.0.2.2"}; !slices.Equal(got, want) {
			t.Errorf("upstreams %v, want %v", got, want)
		}
		cancel()
		<-done
	})
}

// TestQuestionWaitsForFirstLookup checks that a question which arrives before the first lookup has ended is answered, and that later questions fail at once
// if the lookup failed.
func TestQuestionWaitsForFirstLookup(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	release := make(chan error)
	s := NewSwitch(Config{}, func(context.Context, string) (Addresses, error) {
		return Addresses{[]netip.Addr{u.Addr.Addr()}, time.Hour}, <-release
	})
	if _, err := s.Replace(parseList(t, "udp://dns.example:"+u.Addr.String()[len("127.0.0.1:"):])); err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, s.Run)
	answered := make(chan error)
	go func() {
		_, err := s.Exchange(t.Context(), question(t, "www.example"))
		answered <- err
	}()
	time.Sleep(20 * time.Millisecond)
	release <- errors.New("no network")
	if err := <-answered; !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v, want %v", err, ErrUnreachable)
	}
	if err := s.Missing(); err == nil {
		t.Error("no reason is given for the missing upstream")
	}
	release <- nil
	soon(t, time.Second, func() time.Duration {
		begun := time.Now()
		for s.Missing() != nil && time.Since(begun) < 5*time.Second {
			time.Sleep(time.Millisecond)
		}
		return time.Since(begun)
	})
	if _, err := s.Exchange(t.Context(), question(t, "www.example")); err != nil {
		t.Error(err)
	}
}

// TestSwitchRefusesHostsWithoutLookup checks that an endpoint without an address is refused where no lookup is possible.
func TestSwitchRefusesHostsWithoutLookup(t *testing.T) {
	s := NewSwitch(Config{}, nil)
	if _, err := s.Replace(parseList(t, "tls://dns.example")); err == nil {
		t.Error("an endpoint without an address was accepted")
	}
}

// TestSwitchRefusesTooManyUpstreams checks that more than maxEndpoints upstreams are refused, with addresses or with host names, instead of not being used.
func TestSwitchRefusesTooManyUpstreams(t *testing.T) {
	for _, format := range []string{"udp://192.0.2.%d", "tls://h%d.example"} {
		s := NewSwitch(Config{}, new(phoneBook).lookup)
		var urls []string
		for i := range maxEndpoints + 1 {
			urls = append(urls, fmt.Sprintf(format, i))
		}
		if _, err := s.Replace(parseList(t, urls[1:]...)); err != nil {
			t.Error(err)
		}
		if _, err := s.Replace(parseList(t, urls...)); err == nil {
			t.Errorf("%d upstreams like %s were accepted", len(urls), urls[0])
		}
	}
}
