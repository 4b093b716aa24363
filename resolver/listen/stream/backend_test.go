package stream

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// serveBehind runs a server behind proxies on 127.0.0.1, and returns the address of its backend listener.
func serveBehind(t *testing.T, h Handler, proxies ...string) (s *Server, backend string) {
	t.Helper()
	c := setup{Addrs: fake.Loopback(), TLS: fake.Loopback(), Backend: fake.Loopback()}
	for _, p := range proxies {
		c.Proxies = append(c.Proxies, netip.MustParsePrefix(p))
	}
	c.Secure, _ = fake.Identity(t)
	s, _ = serve(t, h, c, nil)
	return s, s.backends[0].Addr().String()
}

// TestBackend checks requests over HTTP/1.1 and HTTP/2 without TLS, with each way by which a proxy names its client.
func TestBackend(t *testing.T) {
	_, at := serveBehind(t, &fake.Handler{}, "127.0.0.0/8")
	q := fake.Query(t, 0, "a.example")
	header := fake.ProxyHeader(netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("198.51.100.1:443"), "")
	for _, tt := range []struct {
		name   string
		header []byte // of the PROXY protocol
		fields []string
		client string // "": the request is refused
	}{
		{"Forwarded", nil, []string{"Forwarded", `for=192.0.2.1, for="[2001:db8::1]:4711";proto=https`}, "2001:db8::1"},
		{"two fields", nil, []string{"Forwarded", "for=192.0.2.1", "Forwarded", "by=x;For=192.0.2.2"}, "192.0.2.2"},
		{"X-Forwarded-For", nil, []string{"X-Forwarded-For", "203.0.113.1, 192.0.2.3"}, "192.0.2.3"},
		{"PROXY", header, []string{"X-Forwarded-For", "203.0.113.1"}, "192.0.2.7"},
		{"no client", nil, nil, ""},
		{"a hidden client", nil, []string{"Forwarded", "for=_hidden"}, ""},
	} {
		for _, proto := range []int{1, 2} {
			t.Run(tt.name, func(t *testing.T) {
				transport := &http.Transport{Protocols: &http.Protocols{}, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
					if err == nil {
						_, err = c.Write(tt.header)
					}
					return c, err
				}}
				transport.Protocols.SetHTTP1(proto == 1)
				transport.Protocols.SetUnencryptedHTTP2(proto == 2)
				defer transport.CloseIdleConnections()
				for _, method := range []string{"GET", "POST"} {
					r, err := http.NewRequest(method, "http://"+at+wire.DoHPath+"?dns="+base64.RawURLEncoding.EncodeToString(q), bytes.NewReader(q))
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Content-Type", dnsMessage)
					for i := 0; i < len(tt.fields); i += 2 {
						r.Header.Add(tt.fields[i], tt.fields[i+1])
					}
					res, err := transport.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					content, _ := io.ReadAll(res.Body)
					res.Body.Close()
					if tt.client == "" {
						if res.StatusCode != statusBadRequest {
							t.Errorf("status %d", res.StatusCode)
						}
						continue
					}
					if res.StatusCode != statusOK || res.ProtoMajor != proto {
						t.Fatalf("%s over %s: %s", res.Status, res.Proto, content)
					}
					if a := netip.MustParseAddr(tt.client); !bytes.Contains(content, a.AsSlice()) { // the fake handler answers with the client's address
						t.Errorf("the client is not %v: %x", a, content)
					}
				}
			})
		}
	}
}

// TestBackendIsForProxiesOnly checks that nobody else can name clients.
func TestBackendIsForProxiesOnly(t *testing.T) {
	s, at := serveBehind(t, &fake.Handler{}, "192.0.2.0/24")
	c := fake.Dial(t, "tcp", at)
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	fake.Closed(t, c)
	if s.refused.Load() != 1 {
		t.Error("the connection is not counted")
	}
}

// TestProxiedConnection checks connections over TCP and TLS that begin with a header of the PROXY protocol, and that others are closed.
func TestProxiedConnection(t *testing.T) {
	s, _ := serveBehind(t, &fake.Handler{}, "127.0.0.0/8")
	header := fake.ProxyHeader(netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("198.51.100.1:53"), "")
	for _, transport := range []wire.Transport{wire.TCP, wire.TLS} {
		at := s.addrsOf(transport)[0].String()
		bad := fake.Dial(t, "tcp", at)
		_, _ = bad.Write(dnstest.Framed(fake.Query(t, 1, "a.example")))
		fake.Closed(t, bad)
		if transport == wire.TLS {
			continue // what follows the header is the same
		}
		c := fake.Dial(t, "tcp", at)
		if _, err := c.Write(append(header, dnstest.Framed(fake.Query(t, 1, "a.example"))...)); err != nil {
			t.Fatal(err)
		}
		if m := fake.ReadFrame(t, c); m.Answer[0].(*dns.A).A.String() != "192.0.2.7" {
			t.Errorf("the client is not the one of the header: %v", m)
		}
	}
	if s.proxyFailures.Load() != 2 {
		t.Error("connections without a header are not counted")
	}
}
