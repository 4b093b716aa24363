package upstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// address asks for A of name, and returns the first address of the answer.
func (s *Switch) address(t *testing.T, name string) string {
	t.Helper()
	a, err := s.Exchange(t.Context(), question(t, name))
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(a.Packed); err != nil || len(m.Answer) == 0 {
		t.Fatalf("answer %v, %v; want one with a record", m, err)
	}
	return m.Answer[0].(*dns.A).A.String()
}

// TestSwitch replaces the upstreams of a running Switch: it has none at first, then one, then another one while the first has an open question, then none.
func TestSwitch(t *testing.T) {
	hold := make(chan struct{})
	first := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if q.Msg.Question[0].Name == "slow.example." {
			<-hold
		}
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	second := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 192.0.2.2"))
	s := NewSwitch(Config{}, nil)
	stop := dnstest.Running(t, s.Run)
	soon(t, time.Second, func() time.Duration {
		begun := time.Now()
		if _, err := s.Exchange(t.Context(), question(t, "none.example")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a question without upstreams: %v, want ErrUnreachable", err)
		}
		return time.Since(begun)
	})
	if _, err := s.DialContext(t.Context(), "tcp", "lists.example:80"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dialling a name without upstreams: %v, want ErrUnreachable", err)
	}
	replace := func(want bool, urls ...string) {
		t.Helper()
		var list []transport.Endpoint
		for _, u := range urls {
			e, err := transport.ParseEndpoint(u)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
		if changed, err := s.Replace(list); changed != want || err != nil {
			t.Fatalf("changed %v, %v", changed, err)
		}
	}
	replace(true, overUDP(first))
	replace(false, overUDP(first))
	if got := s.address(t, "one.example"); got != "192.0.2.1" {
		t.Errorf("address %s, want 192.0.2.1 from the first upstream", got)
	}
	slow := make(chan error, 1)
	go func() {
		_, err := s.Exchange(context.WithoutCancel(t.Context()), question(t, "slow.example"))
		slow <- err
	}()
	for first.Queries("udp") < 2 {
		time.Sleep(time.Millisecond)
	}
	replace(true, overUDP(second))
	if got := s.address(t, "two.example"); got != "192.0.2.2" {
		t.Errorf("address %s, want 192.0.2.2 from the second upstream", got)
	}
	close(hold)
	if err := <-slow; err != nil {
		t.Errorf("the question that was open during the replacement: %v", err)
	}
	if _, err := s.Replace([]transport.Endpoint{{}}); err == nil {
		t.Error("an endpoint without an address was accepted")
	}
	if got := s.address(t, "still.example"); got != "192.0.2.2" {
		t.Errorf("address %s, want 192.0.2.2 from the second upstream", got)
	}
	if up := s.Stats().Upstreams; len(up) != 1 || up[0].Upstream != overUDP(second) {
		t.Errorf("upstreams %+v, want the second one only", up)
	}
	replace(true)
	if up := s.Stats().Upstreams; len(up) != 0 {
		t.Errorf("upstreams %+v, want none", up)
	}
	stop()
}
