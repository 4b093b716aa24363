package redirect

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// remote is a connection that seems to go to an address.
type remote struct {
	net.Conn
	addr netip.AddrPort
}

func (r remote) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(r.addr) }

// dialer connects to any name at a test server; addresses holds what address each dial of a name seems to go to, the last one for all later dials.
type dialer struct {
	addresses map[string][]string
	dials     map[string]int
	to        map[string]string // listeners by name
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	conn, err := new(net.Dialer).DialContext(ctx, network, d.to[host])
	if err != nil {
		return nil, err
	}
	all := d.addresses[host]
	n := min(d.dials[host], len(all)-1)
	d.dials[host]++
	return remote{conn, netip.AddrPortFrom(netip.MustParseAddr(all[n]), 80)}, nil
}

// server counts requests, and redirects to a target unless it is "".
func server(t *testing.T, target string, secure bool) (srv *httptest.Server, seen *atomic.Pointer[http.Header]) {
	t.Helper()
	seen = &atomic.Pointer[http.Header]{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Clone()
		seen.Store(&header)
		if target != "" && r.URL.Path != "/end" {
			http.Redirect(w, r, target, http.StatusFound)
			return
		}
		io.WriteString(w, "content")
	})
	if srv = httptest.NewUnstartedServer(h); secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv, seen
}

// TestRedirectsToInternalAddressesAreRefused follows redirects from a publisher to the fetching machine and to its network.
func TestRedirectsToInternalAddressesAreRefused(t *testing.T) {
	const public, other = "203.0.113.1", "2001:4860:4860::8888"
	for what, c := range map[string]struct {
		target    string              // of the redirect
		addresses map[string][]string // of names
		proxied   bool
		followed  bool
	}{
		"to a public name":                               {"http://end.example/end", map[string][]string{"start.example": {public}, "end.example": {other}}, false, true},
		"to a name with a private address":               {"http://end.example/end", map[string][]string{"start.example": {public}, "end.example": {"10.1.2.3"}}, false, false},
		"to a name with a loopback address":              {"http://end.example/end", map[string][]string{"start.example": {public}, "end.example": {"127.0.0.1"}}, false, false},
		"to a name with an IPv4-mapped loopback address": {"http://end.example/end", map[string][]string{"start.example": {public}, "end.example": {"::ffff:127.0.0.1"}}, false, false},
		"to the metadata address":                        {"http://169.254.169.254/end", map[string][]string{"start.example": {public}, "169.254.169.254": {"169.254.169.254"}}, false, false},
		"to localhost":                                   {"http://localhost/end", map[string][]string{"start.example": {public}, "localhost": {"127.0.0.1"}}, false, false},
		"the name changes its address":                   {"http://start.example/end", map[string][]string{"start.example": {public, "192.168.1.1"}}, false, false},
		"from a private address to another":              {"http://end.example/end", map[string][]string{"start.example": {"10.0.0.1"}, "end.example": {"10.0.0.2"}}, false, true},
		"the proxy is private":                           {"http://end.example/end", map[string][]string{"start.example": {"10.0.0.1"}, "end.example": {"10.0.0.1"}, "proxy.example": {"10.0.0.1"}}, true, true},
		"to loopback through the proxy":                  {"http://127.0.0.1/end", map[string][]string{"proxy.example": {"10.0.0.1"}, "127.0.0.1": {"127.0.0.1"}}, true, false},
	} {
		t.Run(what, func(t *testing.T) {
			srv, _ := server(t, c.target, false)
			d := &dialer{addresses: c.addresses, dials: map[string]int{}, to: map[string]string{}}
			for name := range c.addresses {
				d.to[name] = srv.Listener.Addr().String()
			}
			proxy := func(*url.URL) (*url.URL, error) { return nil, nil }
			if c.proxied {
				proxy = func(*url.URL) (*url.URL, error) { return url.Parse("http://proxy.example") }
			}
			tr := &http.Transport{DialContext: d.dial, DisableKeepAlives: true, Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }}
			f := NewFollower(&http.Client{Transport: tr}, proxy)
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://start.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := f.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			if followed := err == nil; followed != c.followed {
				t.Errorf("followed %v, error %v", followed, err)
			}
			if err != nil && !strings.Contains(err.Error(), "redirected from a public address") {
				t.Error(err)
			}
		})
	}
}

// TestInnerConnectionsAreNotShared checks that a redirect from a public address does not use an idle connection to an internal address.
func TestInnerConnectionsAreNotShared(t *testing.T) {
	srv, _ := server(t, "http://inner.example/end", false)
	at := srv.Listener.Addr().String()
	d := &dialer{
		addresses: map[string][]string{"start.example": {"203.0.113.1"}, "inner.example": {"10.0.0.1"}}, dials: map[string]int{},
		to: map[string]string{"start.example": at, "inner.example": at},
	}
	f := NewFollower(&http.Client{Transport: &http.Transport{DialContext: d.dial}}, nil)
	get := func(url string) error {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		resp, err := f.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return err
	}
	if err := get("http://inner.example/end"); err != nil {
		t.Fatal(err)
	}
	if err := get("http://start.example/"); err == nil {
		t.Error("the redirect was followed over an idle connection")
	}
}

// TestCredentialsAreNotSentToAnotherOrigin follows redirects to another scheme, host or port with a token.
func TestCredentialsAreNotSentToAnotherOrigin(t *testing.T) {
	port, portSaw := server(t, "", false)
	_, number, _ := net.SplitHostPort(port.Listener.Addr().String())
	plain, plainSaw := server(t, "", false)
	for what, c := range map[string]struct {
		target  string
		saw     *atomic.Pointer[http.Header]
		secure  bool // the first server
		refused bool
	}{
		"another port":    {port.URL + "/end", portSaw, false, false},
		"another host":    {"http://localhost:" + number + "/end", portSaw, false, false},
		"https to http":   {plain.URL + "/end", plainSaw, true, true},
		"the same origin": {"/end", nil, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			first, saw := server(t, c.target, c.secure)
			if c.saw == nil {
				c.saw = saw
			}
			transport := &http.Transport{}
			if c.secure {
				transport.TLSClientConfig = &tls.Config{RootCAs: first.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
			}
			client := &http.Client{Transport: transport}
			req, _ := http.NewRequestWithContext(t.Context(), "GET", first.URL, nil)
			req.Header.Set("Authorization", "Bearer SECRET")
			resp, err := NewFollower(client, nil).Do(req)
			if err == nil {
				resp.Body.Close()
			}
			if (err != nil) != c.refused {
				t.Fatalf("error %v", err)
			}
			if h := c.saw.Load(); c.refused {
				if h != nil {
					t.Errorf("it was asked: %v", *h)
				}
			} else if got := h.Get("Authorization") != ""; got != (what == "the same origin") {
				t.Errorf("the credential was sent: %v", got)
			}
		})
	}
}

func TestIsInner(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "10.0.0.1": true, "172.16.0.1": true, "192.168.0.1": true, "169.254.169.254": true, "100.64.0.1": true, "0.0.0.0": true, "0.1.2.3": true,
		"224.0.0.1": true, "::1": true, "::": true, "fe80::1": true, "fd00::1": true, "fec0::1": true, "ff02::1": true, "::ffff:10.0.0.1": true, "64:ff9b::a00:1": true,
		"2002:7f00:1::": true, "::127.0.0.1": true, "255.255.255.255": true, "198.18.0.1": true, "2001::1": true,
		"8.8.8.8": false, "172.32.0.1": false, "100.128.0.1": false, "2001:4860:4860::8888": false, "64:ff9b::808:808": false, "::ffff:8.8.8.8": false, "2002:808:808::": false,
	} {
		if got := IsInner(netip.MustParseAddr(text)); got != want {
			t.Errorf("IsInner(%s) = %v, want %v", text, got, want)
		}
	}
}
