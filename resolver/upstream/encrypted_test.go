package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// pinA is the hash of a key that no server has.
const pinA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// encrypted starts the servers for all encrypted transports of u, and returns their endpoints.
func encrypted(t testing.TB, u *dnstest.Upstream) map[string]string {
	t.Helper()
	quic, _ := u.ServeQUIC(t)
	return map[string]string{
		"tls":   overTLS(u),
		"https": fmt.Sprintf("https://%s/dns-query#%s", u.ServeHTTPS(t, nil), dnstest.TLSName),
		"quic":  fmt.Sprintf("quic://%s#%s", quic, dnstest.TLSName),
	}
}

// eachEncrypted runs a test for each encrypted transport, with an upstream of its own.
func eachEncrypted(t *testing.T, h dnstest.Handler, run func(t *testing.T, u *dnstest.Upstream, network, endpoint string)) {
	for _, network := range []string{"tls", "https", "quic"} {
		t.Run(network, func(t *testing.T) {
			u := dnstest.NewUpstream(t, h)
			run(t, u, network, encrypted(t, u)[network])
		})
	}
}

// TestEncryptedTransportsShareConnection checks that many questions at the same time, and later ones, use one connection, and that queries are padded
// (RFC 8467 section 4.1) and carry no ID over HTTPS and QUIC.
func TestEncryptedTransportsShareConnection(t *testing.T) {
	eachEncrypted(t, nil, func(t *testing.T, u *dnstest.Upstream, network, endpoint string) {
		p := newPool(t, u.Roots, endpoint)
		exchange(t, p, "first.example")
		var asking sync.WaitGroup
		for i := range 50 {
			asking.Go(func() {
				m, a := exchange(t, p, fmt.Sprintf("name-%d.example", i))
				if len(m.Answer) != 1 || !a.Authenticated {
					t.Errorf("authenticated %v, answer %v", a.Authenticated, m.Answer)
				}
			})
		}
		asking.Wait()
		if n := u.Streams(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		if n := u.Queries(network); n != 51 {
			t.Errorf("%d queries over %s, want 51", n, network)
		}
		for _, q := range u.Seen() {
			if q.Size%128 != 0 {
				t.Errorf("a query of %d bytes, want a multiple of %d", q.Size, 128)
			}
			if network != "tls" && q.Msg.Id != 0 {
				t.Errorf("the ID is %d, want 0", q.Msg.Id)
			}
		}
	})
}

// TestFirstQuestionsShareConnection checks that many questions at the same time are answered over one connection although none is open yet.
func TestFirstQuestionsShareConnection(t *testing.T) {
	eachEncrypted(t, nil, func(t *testing.T, u *dnstest.Upstream, _, endpoint string) {
		p := newPool(t, u.Roots, endpoint)
		var asking sync.WaitGroup
		for i := range 100 {
			asking.Go(func() {
				if _, err := exchangeWith(p, t.Context(), question(t, fmt.Sprintf("name-%d.example", i))); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if n := u.Streams(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// TestSlowEncryptedUpstreamGetsPaddedQueriesOnly checks that no query without EDNS is sent to an encrypted upstream that is slow: it would not be padded, and its length
// would reveal the name.
func TestSlowEncryptedUpstreamGetsPaddedQueriesOnly(t *testing.T) {
	eachEncrypted(t, dnstest.Delay(600*time.Millisecond, dnstest.Answer("@ 300 IN A 192.0.2.1")), func(t *testing.T, u *dnstest.Upstream, _, endpoint string) {
		p := newPoolOf(t, Config{RootCAs: u.Roots}, endpoint)
		var asking sync.WaitGroup
		for i := range 4 {
			asking.Go(func() { exchange(t, p, fmt.Sprintf("name-%d.example", i)) })
		}
		asking.Wait()
		for _, q := range u.Seen() {
			if q.Size%128 != 0 {
				t.Errorf("a query of %d bytes, want a multiple of 128", q.Size)
			}
		}
	})
}

// TestEncryptedTransportsCheckCertificate checks that a certificate for another name, of an unknown authority or with a key that is not pinned is refused, and that a
// pinned key is accepted.
func TestEncryptedTransportsCheckCertificate(t *testing.T) {
	eachEncrypted(t, nil, func(t *testing.T, u *dnstest.Upstream, network, endpoint string) {
		address, _, _ := strings.Cut(endpoint, "#")
		pin := "&pin-sha256=" + u.KeyHash
		for _, tt := range []struct {
			options string
			known   bool // the authority
			refused string
		}{
			{"#" + dnstest.TLSName, true, ""},
			{"", true, ""}, // the certificate is valid for the address
			{"#other.test", true, "other.test"},
			{"#" + dnstest.TLSName, false, "unknown authority"},
			{"#" + dnstest.TLSName + pin, true, ""},
			{"#" + dnstest.TLSName + pin, false, "unknown authority"},
			{"#" + dnstest.TLSName + "&pin-sha256=" + pinA, true, u.KeyHash},
			{"#" + dnstest.TLSName + "&pin-sha256=" + pinA + pin, true, ""},
			{"#" + pin, false, ""}, // the key alone
			{"#other.test" + pin, true, "other.test"},
			{"#&pin-sha256=" + pinA, false, u.KeyHash},
		} {
			roots := u.Roots
			if !tt.known {
				roots = dnstest.NewUpstream(t, nil).Roots
			}
			p := newPool(t, roots, address+tt.options)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			r, err := p.members[0].via.Exchange(ctx, &transport.Request{Question: question(t, "www.example")})
			cancel()
			if tt.refused == "" {
				if err != nil || wire.Rcode(r.Packed) != wire.Success {
					t.Errorf("%s: rcode %d, %v", tt.options, wire.Rcode(r.Packed), err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), tt.refused) || transport.KindOf(err) != transport.Untrusted {
				t.Errorf("%s: %v (%v), want an error with %q", tt.options, err, transport.KindOf(err), tt.refused)
			}
		}
	})
}

// TestEncryptedTransportsRecoverFromRestart checks that a question is answered although the connection ended, and that no question is lost.
func TestEncryptedTransportsRecoverFromRestart(t *testing.T) {
	eachEncrypted(t, nil, func(t *testing.T, u *dnstest.Upstream, network, endpoint string) {
		p := newPool(t, u.Roots, endpoint)
		exchange(t, p, "first.example")
		var closed atomic.Bool
		u.Handle(func(q *dnstest.Query) {
			if closed.CompareAndSwap(false, true) {
				q.Close()
				return
			}
			dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
		})
		for i := range 3 {
			exchange(t, p, fmt.Sprintf("later-%d.example", i))
		}
	})
}

// TestEncryptedTransportsResumeSessions checks that a second connection continues the TLS session of the first, so that it costs no second exchange of certificates.
func TestEncryptedTransportsResumeSessions(t *testing.T) {
	eachEncrypted(t, nil, func(t *testing.T, u *dnstest.Upstream, network, endpoint string) {
		p := newPool(t, u.Roots, endpoint)
		exchange(t, p, "first.example")
		time.Sleep(100 * time.Millisecond) // the server sends its ticket after the handshake
		p.members[0].via.Retire()
		exchange(t, p, "second.example")
		if n := u.Streams(); n != 2 {
			t.Fatalf("%d connections, want 2", n)
		}
		if u.Seen()[0].Resumed || !u.Last().Resumed {
			t.Errorf("sessions resumed: %v for the first connection, %v for the second; want false, true", u.Seen()[0].Resumed, u.Last().Resumed)
		}
	})
}

// TestHTTPSRequestsIdentifyNobody checks the headers of requests: none of them distinguishes this server from other clients of the upstream.
func TestHTTPSRequestsIdentifyNobody(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	var mu sync.Mutex
	var got http.Header
	var line string
	at := u.ServeHTTPS(t, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		got, line = r.Header.Clone(), fmt.Sprint(r.Method, " ", r.URL, " ", r.Proto, " ", r.Host)
		return false
	})
	p := newPool(t, u.Roots, fmt.Sprintf("https://%s/a/b?c=d#%s", at, dnstest.TLSName))
	exchange(t, p, "www.example")
	mu.Lock()
	defer mu.Unlock()
	got.Del("Content-Length")
	want := http.Header{"Content-Type": {"application/dns-message"}, "Accept": {"application/dns-message"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers:\n%s", diff)
	}
	if want := fmt.Sprintf("POST /a/b?c=d HTTP/2.0 %s:%d", dnstest.TLSName, at.Port()); line != want {
		t.Errorf("request %q, want %q", line, want)
	}
}

// TestHTTPSPathIsSentAsConfigured checks that the path and the query of the URL are requested as they were written.
func TestHTTPSPathIsSentAsConfigured(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	var got atomic.Value
	at := u.ServeHTTPS(t, func(_ http.ResponseWriter, r *http.Request) bool { got.Store(r.RequestURI); return false })
	for _, path := range []string{"/abc/John%20Router", "/a%2Fb", "/a//b", "/a?b=%20c"} {
		p := newPool(t, u.Roots, fmt.Sprintf("https://%s%s#%s", at, path, dnstest.TLSName))
		exchange(t, p, "www.example")
		if got.Load() != path {
			t.Errorf("requested %q, want %q", got.Load(), path)
		}
	}
}

// openConns counts the open connections of a Dial function.
type openConns struct{ n atomic.Int32 }

func (o *openConns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	o.n.Add(1)
	return &closeNotedConn{conn, sync.OnceFunc(func() { o.n.Add(-1) })}, nil
}

// closeNotedConn is a connection that calls a function when it is closed.
type closeNotedConn struct {
	net.Conn
	closed func()
}

func (c *closeNotedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// shrinksTo waits until n connections are open.
func (o *openConns) shrinksTo(t *testing.T, n int32, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); o.n.Load() > n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open after %v, want %d", o.n.Load(), within, n)
		}
	}
}

// TestHTTPSConnectionsEndWithPool checks that connections with questions in flight are closed when the pool ends.
func TestHTTPSConnectionsEndWithPool(t *testing.T) {
	u := dnstest.NewUpstream(t, func(*dnstest.Query) {})
	var open openConns
	p := newPoolOf(t, Config{RootCAs: u.Roots, Dial: open.dial}, encrypted(t, u)["https"])
	for range 10 {
		go p.Exchange(t.Context(), question(t, "www.example"))
	}
	time.Sleep(100 * time.Millisecond)
	p.group.end()
	open.shrinksTo(t, 0, 3*time.Second)
}

// TestRetiredHTTPSConnectionsAreClosed checks that retired connections with questions in flight are closed soon after these have ended, although they are not idle when
// they are retired.
func TestRetiredHTTPSConnectionsAreClosed(t *testing.T) {
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		time.Sleep(200 * time.Millisecond)
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	var open openConns
	p := newPoolOf(t, Config{RootCAs: u.Roots, Dial: open.dial, patience: defaultTimeout, plainAfter: defaultTimeout}, encrypted(t, u)["https"])
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() { exchange(t, p, "www.example") })
		time.Sleep(100 * time.Millisecond)
		p.members[0].via.Retire()
	}
	asking.Wait()
	open.shrinksTo(t, 0, 8*time.Second)
}

// TestHTTPSResponsesAreChecked checks that responses without a sound message fail with a clear error, and that the time in an HTTP cache shortens TTLs.
func TestHTTPSResponsesAreChecked(t *testing.T) {
	var respond atomic.Pointer[func(http.ResponseWriter)]
	u := dnstest.NewUpstream(t, nil)
	at := u.ServeHTTPS(t, func(w http.ResponseWriter, _ *http.Request) bool {
		f := respond.Load()
		(*f)(w)
		return true
	})
	p := newPool(t, u.Roots, fmt.Sprintf("https://%s/dns-query#%s", at, dnstest.TLSName))
	ask := func(f func(http.ResponseWriter)) (transport.Reply, error) {
		respond.Store(&f)
		return p.members[0].via.Exchange(t.Context(), &transport.Request{Question: question(t, "www.example")})
	}
	for name, tt := range map[string]struct {
		respond func(http.ResponseWriter)
		want    string
	}{
		"missing":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "HTTP status 404"},
		"redirect": {func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(http.StatusFound) }, "HTTP status 302"},
		"page":     {func(w http.ResponseWriter) { w.Write([]byte("<html>")) }, "content type"},
		"empty":    {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/dns-message") }, "not to the question"},
		"endless": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/dns-message")
			w.Write(make([]byte, 70000))
		}, "longer than 65535"},
		"long headers": {func(w http.ResponseWriter) { w.Header().Set("X", strings.Repeat("x", 64<<10)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ask(tt.respond); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
	r, err := ask(func(w http.ResponseWriter) {
		m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
		m.Response, m.Id = true, 0
		for _, text := range []string{"www.example. 300 IN A 192.0.2.1", "www.example. 20 IN A 192.0.2.2"} {
			rr, _ := dns.NewRR(text)
			m.Answer = append(m.Answer, rr)
		}
		packed, _ := m.Pack()
		w.Header().Set("Content-Type", "application/dns-message")
		w.Header().Set("Age", "100")
		w.Write(packed)
	})
	m := new(dns.Msg)
	if err != nil || m.Unpack(r.Packed) != nil {
		t.Fatal(err)
	}
	if a, b := m.Answer[0].Header().Ttl, m.Answer[1].Header().Ttl; a != 200 || b != 0 {
		t.Errorf("TTLs %d and %d, want 200 and 0", a, b)
	}
}

// TestHTTPSUpstreamWithWrongPathGoesDownAtOnce checks that an upstream whose path is wrong is not taken for one that cannot answer some questions: the operator must see
// the reason in the log at once.
func TestHTTPSUpstreamWithWrongPathGoesDownAtOnce(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	for status, down := range map[int]bool{http.StatusNotFound: true, http.StatusForbidden: true, http.StatusServiceUnavailable: false} {
		at := u.ServeHTTPS(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true })
		p := newPool(t, u.Roots, fmt.Sprintf("https://%s/dns-query#%s", at, dnstest.TLSName))
		if _, err := p.Exchange(t.Context(), question(t, "www.example")); !errors.Is(err, ErrUnreachable) || p.members[0].isDown() != down {
			t.Errorf("HTTP status %d: %v, down: %v, want %v", status, err, p.members[0].isDown(), down)
		}
	}
}

// TestHTTPSQuestionsWaitForRoom checks that questions wait if the upstream allows one question per connection, and that not each of them opens one.
func TestHTTPSQuestionsWaitForRoom(t *testing.T) {
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		time.Sleep(10 * time.Millisecond)
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	at := u.ServeHTTPS(t, nil, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
	p := newPool(t, u.Roots, fmt.Sprintf("https://%s/dns-query#%s", at, dnstest.TLSName))
	const questions = 60
	var asking sync.WaitGroup
	for i := range questions {
		asking.Go(func() { exchange(t, p, fmt.Sprintf("name-%d.example", i)) })
	}
	asking.Wait()
	if n := u.Streams(); n >= questions { // at most 16 at a time, but one on which a second question came before the upstream's settings is not used again
		t.Errorf("%d connections for %d questions", n, questions)
	}
}

// TestQUICUpstreamRestarts checks that questions are answered soon after a server on the same address replaced the one that knew the connection.
func TestQUICUpstreamRestarts(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	at, stop := u.ServeQUIC(t)
	p := newPool(t, u.Roots, fmt.Sprintf("quic://%s#%s", at, dnstest.TLSName))
	p.members[0].health.fixed = 0 // its patience decides when the connection is given up
	exchange(t, p, "first.example")
	stop()
	u.ServeQUICOn(t, at.String())
	begin := time.Now()
	exchange(t, p, "second.example")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("answered after %v", took)
	}
}

// TestEncryptedTransportsEndWithPool checks that questions in flight end soon after the pool, and that no goroutine stays.
func TestEncryptedTransportsEndWithPool(t *testing.T) {
	eachEncrypted(t, func(*dnstest.Query) {}, func(t *testing.T, u *dnstest.Upstream, network, endpoint string) {
		p := newPool(t, u.Roots, endpoint)
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := p.Exchange(ctx, question(t, "www.example"))
			ended <- err
		}()
		time.Sleep(100 * time.Millisecond)
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want %v", err, context.Canceled)
			}
		case <-time.After(2 * time.Second):
			t.Error("the question did not end")
		}
		p.group.end()
	})
}
