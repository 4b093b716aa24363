package stream

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"golang.org/x/net/netutil"

	"rempart/internal/wire"
	"rempart/resolver/listen/proxyproto"
)

// backend serves DNS over HTTPS behind a reverse proxy, which removed the encryption: HTTP/1.1 and HTTP/2 without TLS (RFC 9113 section 3.3). It uses net/http:
// proxies differ in what they send, and the proxy costs more than this server.
type backend struct {
	server *Server
	http   *http.Server
}

// newBackend returns the server behind reverse proxies.
func newBackend(s *Server) *backend {
	b := &backend{server: s}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	b.http = &http.Server{
		Handler: b, Protocols: protocols, MaxHeaderBytes: maxHeaderList,
		ReadHeaderTimeout: idleTimeout, ReadTimeout: idleTimeout, WriteTimeout: idleTimeout, IdleTimeout: secureIdleTimeout,
		ErrorLog:    log.New(io.Discard, "", 0), // it would hold addresses
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, backendKey{}, c) },
	}
	return b
}

// serve serves the connections of a listener, at most conns at a time, until it is closed and the requests in progress are answered or the server hangs up.
func (b *backend) serve(l net.Listener, conns int) {
	_ = b.http.Serve(backendListener{netutil.LimitListener(l, conns), b.server})
	_ = b.http.Shutdown(context.Background())
}

// backendKey is the key of a request's connection in its context.
type backendKey struct{}

// ServeHTTP answers one request.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := dohRequest{method: r.Method, target: r.RequestURI, contentType: r.Header.Get("Content-Type"), length: uint64(max(0, r.ContentLength))}
	packet, status := request.query(readContent(r))
	if status != statusOK {
		respond(w, status, "text/plain", []byte(explanationOfRequest), -1)
		return
	}
	client, local := b.clientOf(r)
	if !client.IsValid() {
		b.server.proxyFailures.Add(1)
		respond(w, statusBadRequest, "text/plain", []byte("The proxy must name the client in the field Forwarded or X-Forwarded-For, or by the PROXY protocol.\n"), -1)
		return
	}
	batch := [1]wire.Query{{Packet: packet, Client: client, Local: local, Transport: wire.HTTPS}}
	if !b.server.resolve(batch[:]) {
		respond(w, statusBadRequest, "text/plain", []byte(explanationOfRequest), -1)
		return
	}
	respond(w, statusOK, dnsMessage, batch[0].Out, int64(maxAge(batch[0].Out)))
}

// readContent reads the content of a request, as far as needed to know whether it is too large; nil if it cannot be read.
func readContent(r *http.Request) []byte {
	content, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxMessage+1))
	if err != nil {
		return nil
	}
	return content
}

// respond writes a response. age is for cache-control, negative for none.
func respond(w http.ResponseWriter, status int, contentType string, content []byte, age int64) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if age >= 0 {
		h.Set("Cache-Control", "max-age="+strconv.FormatInt(age, 10))
	}
	w.WriteHeader(status)
	_, _ = w.Write(content)
}

// resolve answers the query in batch, and waits for the slow path if needed. It returns false if it is no query.
func (s *Server) resolve(batch []wire.Query) bool {
	s.config.Handler.Fast(batch)
	one := &batch[0]
	switch {
	case one.Outcome == wire.Slow:
		answered := make(chan struct{})
		ok := s.config.Pool.Run(one.Client, func(ctx context.Context) {
			defer close(answered)
			s.config.Handler.Slow(ctx, one)
		})
		if !ok {
			s.config.Handler.Shed(one)
			break
		}
		<-answered
	case one.Outcome == wire.Answered && one.Renew:
		renewed := *one
		renewed.Out = nil
		s.config.Pool.Run(one.Client, func(ctx context.Context) { s.config.Handler.Slow(ctx, &renewed) })
	}
	return one.Outcome == wire.Answered
}

// clientOf returns the client of a request and the address that it used: by the PROXY protocol, or by the fields that
// proxyproto.Forwarded reads. The client is not valid if the proxy names none.
func (b *backend) clientOf(r *http.Request) (client, local netip.Addr) {
	if c := r.Context().Value(backendKey{}).(*backendConn); c.header.Client.IsValid() {
		return c.header.Client.Addr(), c.header.Local.Addr()
	}
	return proxyproto.Forwarded(r.Header.Values("Forwarded"), r.Header.Values("X-Forwarded-For")), netip.Addr{}
}

// backendConn is a connection of a proxy. It may begin with a header of the PROXY protocol, which no request of HTTP resembles.
type backendConn struct {
	net.Conn
	begun  bool // the header was read, or the first byte, which is none
	first  []byte
	header proxyproto.Header // valid once a request was read
}

// Read reads what follows the header.
func (c *backendConn) Read(p []byte) (int, error) {
	if !c.begun {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.Conn, first); err != nil {
			return 0, err
		}
		c.begun = true
		if first[0] != proxyproto.FirstByte {
			c.first = first
		} else {
			h, err := proxyproto.ReadFrom(io.MultiReader(bytes.NewReader(first), c.Conn))
			if err != nil {
				return 0, err
			}
			c.header = h
		}
	}
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = nil
		return n, nil
	}
	return c.Conn.Read(p)
}

// backendListener accepts connections of proxies only.
type backendListener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection of a proxy.
func (l backendListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.server.config.Proxies.Has(wire.SocketAddr(c.RemoteAddr()).Addr()) {
			l.server.refused.Add(1)
			c.Close()
			continue
		}
		return &backendConn{Conn: c}, nil
	}
}
