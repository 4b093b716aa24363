package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// newPool returns a pool of endpoints, which are given as text. The pool ends with the test.
func newPool(t testing.TB, roots *x509.CertPool, endpoints ...string) *Pool {
	t.Helper()
	// On a slow machine an answer may take long, and is not to be taken for a missing one.
	return newPoolOf(t, Config{RootCAs: roots, patience: defaultTimeout, plainAfter: defaultTimeout}, endpoints...)
}

// newPoolOf is newPool with another configuration.
func newPoolOf(t testing.TB, c Config, endpoints ...string) *Pool {
	t.Helper()
	c.Identity = "0123456789abcdef"
	for _, s := range endpoints {
		e, err := transport.ParseEndpoint(s)
		if err != nil {
			t.Fatal(err)
		}
		c.Endpoints = append(c.Endpoints, e)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.group.end)
	return p
}

func overUDP(u *dnstest.Upstream) string { return "udp://" + u.Addr.String() }
func overTCP(u *dnstest.Upstream) string { return "tcp://" + u.Addr.String() }
func overTLS(u *dnstest.Upstream) string {
	return "tls://" + u.TLSAddr.String() + "#" + dnstest.TLSName
}

func question(t testing.TB, name string) Question {
	return Question{Name: dnstest.WireName(t, name), Type: wire.TypeA, Class: wire.ClassIN}
}

// exchange asks for name and unpacks the answer.
func exchange(t testing.TB, p *Pool, name string) (*dns.Msg, Answer) {
	t.Helper()
	a, err := exchangeWith(p, t.Context(), question(t, name))
	if err != nil {
		t.Fatalf("Exchange for %s: %v", name, err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(a.Packed); err != nil {
		t.Fatalf("unpacking the answer about %s: %v", name, err)
	}
	if got := m.Question[0].Name; got != name+"." {
		t.Errorf("the question in the answer is %q, want %q", got, name+".")
	}
	return m, a
}

func TestTransports(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	for _, tt := range []struct{ network, endpoint string }{
		{"udp", overUDP(u)}, {"tcp", overTCP(u)}, {"tls", overTLS(u)}, {"tls", "tls://" + u.TLSAddr.String()},
	} {
		t.Run(tt.endpoint, func(t *testing.T) {
			p := newPool(t, u.Roots, tt.endpoint)
			before := u.Queries(tt.network)
			m, a := exchange(t, p, "www.example.org")
			if len(m.Answer) != 1 || !a.Authenticated {
				t.Errorf("authenticated %v, answer %v", a.Authenticated, m.Answer)
			}
			last := u.Last()
			if u.Queries(tt.network) != before+1 || last.Network != tt.network {
				t.Errorf("the query arrived over %s", last.Network)
			}
			if tt.network == "tls" && last.Size%128 != 0 {
				t.Errorf("a query of %d bytes over TLS is not padded", last.Size)
			}
			if last.Msg.IsEdns0() == nil || !last.Msg.AuthenticatedData {
				t.Errorf("query:\n%v", last.Msg)
			}
		})
	}
}

func TestTruncation(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.Truncate(dnstest.Answer("@ 300 IN A 192.0.2.7")))
	m, _ := exchange(t, newPool(t, nil, overUDP(u)), "www.example.org")
	if len(m.Answer) != 1 || m.Truncated {
		t.Errorf("answer:\n%v", m)
	}
	if u.Queries("udp") != 1 || u.Queries("tcp") != 1 {
		t.Errorf("%d queries over UDP and %d over TCP, want one each", u.Queries("udp"), u.Queries("tcp"))
	}
}

func TestTruncationWithoutTCPFails(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.Truncate(dnstest.Close()))
	p := newPool(t, nil, overUDP(u))
	a, err := exchangeWith(p, t.Context(), question(t, "www.example.org"))
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("answer %v, error %v, want ErrUnreachable", a, err)
	}
}

func TestSpoofedAnswersAreIgnored(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.Spoof(dnstest.Answer("@ 300 IN A 192.0.2.7")))
	p := newPool(t, nil, overUDP(u))
	m, _ := exchange(t, p, "www.example.org")
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		t.Errorf("a forged answer was accepted:\n%v", m)
	}
	if got := p.Stats().Upstreams[0].Foreign; got < 3 {
		t.Errorf("%d forged answers were counted, want at least 3", got)
	}
}

func TestFloodOfForgedAnswersSwitchesToTCP(t *testing.T) {
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		for i := uint16(1); q.Network == "udp" && i <= 40; i++ {
			m := q.Reply(dns.RcodeNameError)
			m.Id += i
			q.Send(m)
		}
		if q.Network == "tcp" {
			q.Send(q.Reply(dns.RcodeSuccess))
		}
	})
	if m, _ := exchange(t, newPool(t, nil, overUDP(u)), "www.example.org"); m.Rcode != dns.RcodeSuccess {
		t.Errorf("answer:\n%v", m)
	}
}

func TestRcodes(t *testing.T) {
	tests := []struct {
		name          string
		first, second dnstest.Handler
		want, asked   int // the rcode, and the number of queries to the second upstream
	}{
		{"REFUSED: asks the next", dnstest.Rcode(5), dnstest.Rcode(3), 3, 1},
		{"SERVFAIL: asks the next", dnstest.Rcode(2), dnstest.Rcode(0), 0, 1},
		{"SERVFAIL with EDE DNSSEC Bogus: final", dnstest.Rcode(2, 6), dnstest.Rcode(0), 2, 0},
		{"NXDOMAIN: final", dnstest.Rcode(3), dnstest.Rcode(0), 3, 0},
		{"all fail: SERVFAIL before REFUSED", dnstest.Rcode(5), dnstest.Rcode(2), 2, 1},
		{"all refuse", dnstest.Rcode(5), dnstest.Rcode(5), 5, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := dnstest.NewUpstream(t, tt.first), dnstest.NewUpstream(t, tt.second)
			p := newPool(t, nil, overUDP(a), overUDP(b))
			if m, _ := exchange(t, p, "www.example.org"); m.Rcode != tt.want {
				t.Errorf("rcode %d, want %d", m.Rcode, tt.want)
			}
			if got := b.Queries(); got != tt.asked {
				t.Errorf("the second upstream was asked %d times, want %d", got, tt.asked)
			}
			if !p.Stats().Upstreams[0].Healthy {
				t.Error("one error made the first upstream unhealthy")
			}
		})
	}
}

func TestRefusedPortFailsOverAtOnce(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	for _, first := range []string{"udp://127.0.0.1:1", "tcp://127.0.0.1:1", "tls://127.0.0.1:1"} {
		p := newPool(t, u.Roots, first, overUDP(u))
		for range 3 {
			exchange(t, p, "www.example.org")
		}
		s := p.Stats()
		if first := s.Upstreams[0]; first.Healthy || first.Queries != 1 || first.Failures[transport.Unreachable] != 1 {
			t.Errorf("first upstream: %+v", first)
		}
		if second := s.Upstreams[1]; second.Retries != 1 {
			t.Errorf("second upstream: %+v", second)
		}
	}
}

func TestUntrustedCertificate(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	for name, p := range map[string]*Pool{
		"certificate of an unknown authority": newPool(t, x509.NewCertPool(), overTLS(u)),
		"certificate for another name":        newPool(t, u.Roots, "tls://"+u.TLSAddr.String()+"#other.test"),
	} {
		if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: error %v, want ErrUnreachable", name, err)
		}
		if got := p.Stats().Upstreams[0].Failures[transport.Untrusted]; got != 1 {
			t.Errorf("%s: %d failures counted as untrusted, want 1", name, got)
		}
	}
	if u.Queries() != 0 {
		t.Error("a query was sent to an upstream that could not be trusted")
	}
}

// TestCertificateWithoutAddress checks the error if the certificate of a server contains a name but not the server's address, and the endpoint gives no name.
func TestCertificateWithoutAddress(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	l, err := net.Listen("tcp", "127.0.0.2:0") // the certificate contains another address, 127.0.0.1
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", u.TLSAddr.String())
			if err != nil {
				c.Close()
				return
			}
			go func() { io.Copy(far, c); far.Close() }()
			go func() { io.Copy(c, far); c.Close() }()
		}
	}()
	endpoint := "tls://" + l.Addr().String()
	_, err = exchangeWith(newPool(t, u.Roots, endpoint), t.Context(), question(t, "www.example.org"))
	if want := endpoint + "#dns.example"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want an error that says to write %s", err, want)
	}
	exchange(t, newPool(t, u.Roots, endpoint+"#"+dnstest.TLSName), "www.example.org")
}

func TestPipelining(t *testing.T) {
	const n = 50
	u := dnstest.NewUpstream(t, nil)
	for _, endpoint := range []string{overTCP(u), overTLS(u)} {
		streams := u.Streams()
		var mu sync.Mutex
		var held []*dnstest.Query
		u.Handle(func(q *dnstest.Query) { // answers when all queries have arrived, the last one first
			mu.Lock()
			defer mu.Unlock()
			held = append(held, q)
			for i := len(held) - 1; len(held) >= n && i >= 0; i-- {
				dnstest.Answer("@ 300 IN A 192.0.2.1")(held[i])
			}
		})
		p := newPool(t, u.Roots, endpoint)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				name := fmt.Sprintf("n%d.example.org", i)
				a, err := exchangeWith(p, t.Context(), question(t, name))
				if err != nil {
					t.Errorf("Exchange for %s: %v", name, err)
					return
				}
				m := new(dns.Msg)
				if err := m.Unpack(a.Packed); err != nil || len(m.Answer) != 1 || m.Answer[0].Header().Name != name+"." {
					t.Errorf("%s: answered with %v, %v", name, m.Answer, err)
				}
			})
		}
		all.Wait()
		if got := u.Streams() - streams; got > 2 {
			t.Errorf("%s: %d connections, want at most 2", endpoint, got)
		}
	}
}

func TestDeadConnectionIsReplaced(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		mu.Lock()
		seen++
		n := seen
		mu.Unlock()
		if n == 2 {
			q.Close()
			return
		}
		dnstest.Answer()(q)
	})
	p := newPool(t, nil, overTCP(u))
	for range 3 {
		exchange(t, p, "www.example.org")
	}
	if got := u.Streams(); got != 2 {
		t.Errorf("%d connections, want 2", got)
	}
	if s := p.Stats().Upstreams[0]; s.Retries != 1 || !s.Healthy {
		t.Errorf("upstream %+v, want one retry, and healthy", s)
	}
}

func TestMalformedStreams(t *testing.T) {
	for name, raw := range map[string][]byte{
		"too short": []byte("abc"),
		"a header":  make([]byte, wire.HeaderLen),
	} {
		u := dnstest.NewUpstream(t, func(q *dnstest.Query) { q.SendRaw(raw); q.Close() })
		p := newPool(t, nil, overTCP(u))
		if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: error %v, want ErrUnreachable", name, err)
		}
	}
}

func TestCancelledContext(t *testing.T) {
	u := dnstest.NewUpstream(t, dnstest.Drop())
	for _, endpoint := range []string{overUDP(u), overTCP(u), overTLS(u)} {
		p := newPool(t, u.Roots, endpoint)
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := exchangeWith(p, ctx, question(t, "www.example.org")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context.Canceled", endpoint, err)
		}
		stop.Stop()
	}
}

func TestExchangeFailsAfterRunEnds(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	p := newPool(t, u.Roots, overTLS(u), overTCP(u))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	exchange(t, p, "www.example.org")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("after Run has ended: %v, want ErrUnreachable", err)
	}
}
