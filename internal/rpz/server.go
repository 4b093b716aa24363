package rpz

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rempart/internal/pause"
)

const (
	idleTimeout    = 5 * time.Minute // between queries of a client with a key (RFC 9103 section 7.4 allows to keep connections)
	unknownTimeout = 5 * time.Second // for the first query
	acceptPause    = 50 * time.Millisecond
)

// limits are the bounds that a test can lower.
type limits struct {
	idle, unknown, write, transfer time.Duration
}

var errNotAQuery = errors.New("not a query")

// Server serves zones. Its methods may be called from any goroutine.
type Server struct {
	cfg       Config
	keys      map[string]*key // by canonical wire name
	zones     []*zone
	notifiers []*notifier
	state     atomic.Pointer[state]
	pending   pending
	slots     chan struct{}
	limits    limits
	metrics   metrics

	// Used by the goroutine of update.
	builder *builder
	logged  [maxZones]bool // it was logged that records are left out
	renewed time.Time
	stale   bool // the content changed under the same serial, and will be served under the next serial

	places *places
	conns  sync.WaitGroup
}

// Listeners are the sockets for secondaries. Run closes them.
type Listeners struct {
	Packet []net.PacketConn // UDP, for SOA
	Stream []net.Listener   // TCP
	TLS    []net.Listener   // TCP, for TLS 1.3, usually port 9103 or 853
}

// Run surveys the set, then serves the zones, and follows Changed, until ctx ends. It returns when everything that it started has ended.
func (s *Server) Run(ctx context.Context, l Listeners) error {
	if len(l.TLS) > 0 && s.cfg.TLS == nil {
		s.stop(l)
		return errors.New("response policy zones: there are listeners for TLS, but no certificate")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	for _, c := range l.Packet {
		loops.Go(func() { s.packets(ctx, c) })
	}
	for _, n := range l.Stream {
		loops.Go(func() { s.accept(ctx, n, nil) })
	}
	for _, n := range l.TLS {
		loops.Go(func() { s.accept(ctx, n, s.tlsConfig()) })
	}
	for _, n := range s.notifiers {
		loops.Go(func() { n.run(ctx) })
	}
	loops.Go(func() { s.update(ctx) })
	<-ctx.Done()
	s.stop(l)
	loops.Wait()
	s.conns.Wait()
	return nil
}

// tlsConfig returns the configuration that RFC 9103 sections 7.1 and 8.2 require. A client that names no protocol is served: its key authenticates it.
func (s *Server) tlsConfig() *tls.Config {
	c := s.cfg.TLS.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{"dot"}
	return c
}

func (s *Server) stop(l Listeners) {
	for _, c := range l.Packet {
		c.Close()
	}
	for _, n := range append(l.Stream[:len(l.Stream):len(l.Stream)], l.TLS...) {
		n.Close()
	}
	s.places.stop()
}

// packets answers queries over UDP, one after the other: these answers are short.
func (s *Server) packets(ctx context.Context, c net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // mostly about one datagram, such as an ICMP error
			pause.For(ctx, acceptPause)
			continue
		}
		_, _ = s.answer(ctx, buf[:n], addrOf(from), false, func() {}, func(msg []byte) error {
			_, err := c.WriteTo(msg, from)
			return err
		})
	}
}

func addrOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap().WithZone("")
}

func (s *Server) accept(ctx context.Context, l net.Listener, secure *tls.Config) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.begin(ctx, conn, secure)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.cfg.Log.Error("a connection for a zone transfer could not be accepted; raise the limit of open files if this continues", slog.Any("error", err))
			pause.For(ctx, acceptPause)
		}
	}
}

// begin serves a connection, or closes it if there is no place.
func (s *Server) begin(ctx context.Context, conn net.Conn, secure *tls.Config) {
	from := addrOf(conn.RemoteAddr())
	at := s.places.take(conn, from)
	if at == nil {
		s.metrics.refused[refusedConnections].Add(1)
		conn.Close()
		return
	}
	s.conns.Go(func() {
		defer func() {
			conn.Close()
			s.places.Release(at)
		}()
		talk := conn
		if secure != nil {
			talk = tls.Server(conn, secure)
		}
		s.converse(ctx, talk, from, func() { s.places.markKnown(at) })
	})
}

// converse answers the queries of a connection in turn, until none arrives in time or the client may not ask. It calls markKnown before it answers a client that may.
func (s *Server) converse(ctx context.Context, conn net.Conn, from netip.Addr, markKnown func()) {
	in := bufio.NewReader(conn)
	patience := s.limits.unknown
	for {
		if conn.SetDeadline(time.Now().Add(patience)) != nil {
			return
		}
		query, err := readMessage(in)
		if err != nil {
			return
		}
		var frame []byte
		authentic, err := s.answer(ctx, query, from, true, markKnown, func(msg []byte) error {
			if err := conn.SetDeadline(time.Now().Add(s.limits.write)); err != nil {
				return err
			}
			frame = append(binary.BigEndian.AppendUint16(frame[:0], uint16(len(msg))), msg...)
			_, err := conn.Write(frame)
			return err
		})
		if err != nil || !authentic {
			return
		}
		patience = s.limits.idle
	}
}

// readMessage reads a message with its length before it (RFC 1035 section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}
