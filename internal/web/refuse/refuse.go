// Package refuse refuses every connection to port 443 of the warning page at once.
//
// The page has no certificate for the names that redirect to it, so it cannot be served over HTTPS. A browser that gets no answer waits for seconds, or for
// minutes, before it shows the page over HTTP or an error; a browser that is refused does so at once.
package refuse

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"rempart/blocklist"
	"rempart/internal/fair"
	"rempart/internal/pause"
)

// Way is how a connection is refused.
type Way uint8

// The ways to refuse a connection.
const (
	Alert Way = iota // the TLS alert unrecognized_name (RFC 6066 section 3), then the end of the connection
	Reset            // a TCP segment with the flag RST
)

const (
	helloTime   = 3 * time.Second        // how long a client may take for its ClientHello; a client that sends nothing is refused then
	discardTime = time.Second            // how long a client may take to close its side after the alert
	maxDiscard  = 64 << 10               // bytes that a client may send after the refusal
	acceptPause = 100 * time.Millisecond // between two attempts to accept while the process has no descriptors or memory left
)

// Config configures a Server.
type Config struct {
	Way      Way
	View     func() *blocklist.View // returns the current view, for the metrics
	Enforced blocklist.Categories   // the categories that are blocked; 0: all
	Conns    int                    // maximum of connections at a time, over all listeners; further ones are reset at once
}

// Server refuses connections. It never sends a certificate. It stores neither the addresses nor the requested names of clients.
type Server struct {
	config Config
	open   *fair.Admission[*conn]
	counts counts
}

// conn is an open connection.
type conn struct {
	*net.TCPConn
	since int64 // when it was accepted, Unix time in nanoseconds
}

// New returns a Server without listeners.
func New(c Config) (*Server, error) {
	if c.View == nil {
		return nil, errors.New("refusing https:// connections needs a function that returns the view")
	}
	if c.Enforced == 0 {
		c.Enforced = blocklist.AllCategories
	}
	c.Conns = max(c.Conns, 1)
	class := fair.Class{Conns: c.Conns, PerClient: max(1, c.Conns/8), Evict: true, Margin: 2}
	return &Server{config: c, open: fair.NewAdmission(func(c *conn) int64 { return c.since }, class)}, nil
}

// Serve refuses the connections of a TCP listener until ctx ends or the listener is closed, and closes the listener. It may be called once for each listener,
// concurrently. It returns nil if ctx ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		accepted, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				accepted.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			pause.For(ctx, acceptPause)
			continue
		}
		c := &conn{accepted.(*net.TCPConn), time.Now().UnixNano()}
		ok, evicted := s.open.Admit(c, client(c), 0)
		if evicted != nil {
			evicted.reset() // its own goroutine counts it
		}
		if !ok {
			s.counts[unread].Add(1)
			c.reset()
			continue
		}
		running.Go(func() {
			defer s.open.Release(c)
			defer context.AfterFunc(ctx, c.reset)()
			s.refuse(c)
		})
	}
}

// client returns the address of the other side.
func client(c *conn) netip.Addr {
	addr, _ := c.RemoteAddr().(*net.TCPAddr)
	return addr.AddrPort().Addr().Unmap()
}

// refuse reads the ClientHello, counts the connection, refuses it and closes it. Reading takes no time of the person who waits: a client sends its ClientHello
// together with the last packet of the TCP handshake.
func (s *Server) refuse(c *conn) {
	_ = c.SetDeadline(time.Now().Add(helloTime)) // it fails only on a closed connection, and then so does the next call
	name, err := readServerName(c)
	s.counts[s.outcome(name, err)].Add(1)
	if s.config.Way == Reset || isTimeout(err) {
		c.reset()
		return
	}
	c.alert()
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// reset closes the connection in such a way that the client gets a RST.
func (c *conn) reset() {
	_ = c.SetLinger(0)
	c.Close()
}

// unrecognizedName is a record with a fatal alert (RFC 8446 sections 5.1 and 6; RFC 6066 section 3). Its version is the one that every client of TLS accepts in
// the first record.
var unrecognizedName = []byte{21, 3, 1, 0, 2, 2, 112}

// alert sends the alert and closes the connection. It first reads what the client still sends, within bounds: otherwise the kernel would send a RST, at which a
// client may drop the alert unread.
func (c *conn) alert() {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(discardTime))
	if _, err := c.Write(unrecognizedName); err != nil {
		return
	}
	if err := c.CloseWrite(); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, maxDiscard)
}
