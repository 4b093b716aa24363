// Package redirect bounds where HTTP redirects may send a client.
//
// No redirect carries a credential to another scheme, host or port, none leads from https to http, and none leads from a public address to
// one of this machine or its network: a publisher must not make this process send requests that the publisher could not send itself.
package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
)

// Max is the number of redirects that are followed for one request.
const Max = 5

// Check is a CheckRedirect function of http.Client. It refuses too many redirects, other schemes than http and https, and http after https. It
// removes credentials unless all requests of the chain go to the same scheme, host and port.
func Check(req *http.Request, via []*http.Request) error {
	if len(via) > Max {
		return fmt.Errorf("more than %d redirects", Max)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return errors.New("redirected to something else than http or https")
	}
	same := true
	for _, earlier := range via {
		if req.URL.Scheme == "http" && earlier.URL.Scheme == "https" {
			return errors.New("redirected from https to http, which anyone on the way can read and alter")
		}
		same = same && sameOrigin(earlier.URL, via[0].URL)
	}
	if !same || !sameOrigin(req.URL, via[0].URL) {
		for _, name := range []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Www-Authenticate"} {
			req.Header.Del(name)
		}
	}
	req.Header.Del("Referer") // its query may be a token
	return nil
}

// sameOrigin reports whether two URLs have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// Follower makes the clients of single requests. It is safe for concurrent use.
type Follower struct {
	client  *http.Client
	outside http.RoundTripper                // connects to public addresses only
	proxy   func(*url.URL) (*url.URL, error) // of a URL; never nil
}

// NewFollower returns a follower whose clients send requests as client does. proxy returns the proxy of a URL, if it has one; nil is for no proxies.
// The transport of client must be an *http.Transport, or nil.
func NewFollower(client *http.Client, proxy func(*url.URL) (*url.URL, error)) *Follower {
	if proxy == nil {
		proxy = func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	f := &Follower{client: client, proxy: proxy}
	if t, ok := f.direct().(*http.Transport); ok {
		f.outside = outside(t)
	} else {
		f.outside = refusing{}
	}
	return f
}

func (f *Follower) direct() http.RoundTripper {
	if f.client.Transport == nil {
		return http.DefaultTransport
	}
	return f.client.Transport
}

// Do sends a request and follows its redirects.
func (f *Follower) Do(req *http.Request) (*http.Response, error) {
	client := *f.client
	client.CheckRedirect, client.Transport = Check, &chain{f: f}
	return client.Do(req)
}

// chain is the transport of one request and its redirects.
type chain struct {
	f     *Follower
	inner atomic.Bool // the first request went to this machine or its network, without a proxy
}

// RoundTrip is http.RoundTripper's.
func (c *chain) RoundTrip(req *http.Request) (*http.Response, error) {
	via, err := c.f.proxy(req.URL)
	if err != nil {
		via = nil // the transport asks again, and reports it
	}
	if req.Response == nil { // not redirected
		return c.f.direct().RoundTrip(c.watch(req, via != nil))
	}
	if c.inner.Load() {
		return c.f.direct().RoundTrip(req)
	}
	if host := req.URL.Hostname(); isInnerHost(host) {
		return nil, errInner(host)
	}
	if via != nil { // the proxy finds the address
		return c.f.direct().RoundTrip(req)
	}
	return c.f.outside.RoundTrip(req)
}

// watch returns the request, and notes whether its address is an inner one.
func (c *chain) watch(req *http.Request, proxied bool) *http.Request {
	if proxied {
		c.inner.Store(isInnerHost(req.URL.Hostname()))
		return req
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { c.inner.Store(isInnerConn(info.Conn)) },
	}))
}

// refusing is for a transport of which nothing is known.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("redirects are not followed")
}

// outside returns a transport like t, without proxies, that connects to public addresses only.
func outside(t *http.Transport) *http.Transport {
	t = t.Clone()
	t.Proxy = nil
	if t.DialContext == nil {
		t.DialContext = new(net.Dialer).DialContext
	}
	t.DialContext = publicOnly(t.DialContext)
	if t.DialTLSContext != nil {
		t.DialTLSContext = publicOnly(t.DialTLSContext)
	}
	return t
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// publicOnly closes connections to inner addresses before anything is sent over them. The address is that of the connection, so that no
// answer of the DNS gets around it.
func publicOnly(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil && isInnerConn(conn) {
			conn.Close()
			return nil, errInner(addr)
		}
		return conn, err
	}
}

func errInner(host string) error {
	return fmt.Errorf("redirected from a public address to one of this machine or its network (%s): name that URL in the settings if it is meant", host)
}

func isInnerConn(conn net.Conn) bool {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	return err != nil || IsInner(addr.Addr())
}

// isInnerHost reports whether a host is inner without asking the DNS.
func isInnerHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	addr, err := netip.ParseAddr(host)
	return err == nil && IsInner(addr) || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// inner are prefixes that the methods of netip.Addr do not know.
var inner = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/23"),
}

// translated are prefixes whose addresses hold an IPv4 address, and at which byte: NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible.
var translated = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("2002::/16"), 2}, {netip.MustParsePrefix("::/96"), 12},
}

// IsInner reports whether an address is of this machine or of a network that is not public: loopback, private, link-local, shared (RFC 6598), multicast, or for
// tests and protocols (RFC 6890).
func IsInner(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return true
	}
	for _, p := range inner {
		if p.Contains(a) {
			return true
		}
	}
	for _, t := range translated {
		if t.prefix.Contains(a) {
			b := a.As16()
			return IsInner(netip.AddrFrom4([4]byte(b[t.at : t.at+4])))
		}
	}
	return false
}
