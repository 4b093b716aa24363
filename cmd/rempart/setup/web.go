package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/internal/fair"
	"rempart/resolver/listen"
)

const httpTimeout = 10 * time.Second

// Web describes a listener of pages or metrics.
type Web struct {
	Addr     netip.AddrPort
	Handler  http.Handler
	Variable string // the setting that names the address
	Binder   listen.Binder
	Conns    int         // connections at a time
	TLS      *tls.Config // nil: HTTP without TLS
	Log      *slog.Logger
}

// Serve starts goroutines of g that serve w until ctx ends, with limits on the time and size of requests. If all connections are in use and a client with fewer
// connections connects, the oldest connection of the clients with the most connections is closed, so that no client keeps others from the pages. Serve returns w.Addr with
// the port in use, which is another one if the port of w.Addr is 0.
func (w Web) Serve(ctx context.Context, g *errgroup.Group) (netip.AddrPort, error) {
	l, addr, err := WebListener(w.Binder, w.Addr, w.Variable)
	if err != nil {
		return addr, err
	}
	s := &http.Server{
		Handler:           w.Handler,
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: httpTimeout,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // the log of net/http holds client addresses, which must not be stored
	}
	serve := s.Serve
	if w.TLS != nil {
		s.TLSConfig = w.TLS
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	g.Go(func() error {
		if err := serve(newFairListener(l, w.Conns)); !errors.Is(err, http.ErrServerClosed) {
			w.Log.Error("a web listener stopped; DNS is still answered", "address", addr, "error", err)
		}
		return nil
	})
	g.Go(func() error { return ShutdownAfter(ctx, s, time.Second) })
	return addr, nil
}

// WebListener opens a TCP listener on addr, for pages or metrics. It returns addr with the port in use, which is another one if the port of addr is 0.
// Its error names the variable that holds addr.
func WebListener(b listen.Binder, addr netip.AddrPort, variable string) (net.Listener, netip.AddrPort, error) {
	l, err := b.Stream(variable, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, addr, fmt.Errorf("another program already listens on %s; stop that program, or set %s to another address or to \"none\"", addr, variable)
	}
	if err != nil {
		return nil, addr, fmt.Errorf("serving on %s (%s): %w", addr, variable, err)
	}
	return l, netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port)), nil
}

// fairListener accepts a bounded number of connections. If all are in use, a new connection replaces the oldest connection of the clients with the most
// connections, if its own client has fewer; otherwise it is closed. A page is served within milliseconds, so the oldest connection is most likely a slow one.
type fairListener struct {
	net.Listener
	admission *fair.Admission[*fairConn]
}

func newFairListener(l net.Listener, conns int) *fairListener {
	return &fairListener{l, fair.NewAdmission(func(c *fairConn) int64 { return c.since }, fair.Class{Conns: conns, PerClient: conns, Evict: true, Margin: 1})}
}

// fairConn is an accepted connection. Closing it frees its place.
type fairConn struct {
	net.Conn
	since   int64 // when it was accepted, Unix nanoseconds
	release func()
}

// Close closes the connection.
func (c *fairConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// Accept waits for a connection that gets a place. Others are closed.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &fairConn{Conn: conn, since: time.Now().UnixNano()}
		c.release = sync.OnceFunc(func() { l.admission.Release(c) })
		from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		ok, evicted := l.admission.Admit(c, from.Addr().Unmap(), 0)
		if evicted != nil {
			evicted.Conn.Close() // its place is already taken
		}
		if ok {
			return c, nil
		}
		conn.Close()
	}
}
