package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"rempart/internal/wire"
)

const (
	// maxUnverified is the number of handshakes in progress above which a client must first prove that it receives packets at its address (Retry, RFC 9000
	// section 8.1.2): otherwise handshakes under forged addresses would take memory here.
	maxUnverified = 64
	// A connection holds at most this many bytes of queries that were not read yet.
	quicWindow       = 256 << 10
	quicStreamWindow = wire.MaxMessage + maxHeaderList + 1<<10 // the largest query, with the header of an HTTP request
)

// quicListener serves one UDP socket with QUIC: DNS over QUIC, or HTTP/3.
type quicListener struct {
	server    *Server
	transport wire.Transport
	packets   *net.UDPConn
	tls       *tls.Config
	quic      *quic.Transport
	listener  *quic.Listener
	framing   quicFraming
	serving   context.Context // ends when the connections of that time take no new queries
	end       context.CancelFunc
	accepting context.Context // ends when nothing is served any more
	endAll    context.CancelFunc

	unfinished atomic.Int64 // handshakes in progress

	mu      sync.Mutex
	stopped bool
	late    sync.WaitGroup // connections that were accepted after stop, and the loop that accepts connections
}

// ListenQUIC adds a UDP socket, which Close closes, for DNS over QUIC or HTTP/3 (wire.HTTPS), with the certificates of base.
func (s *Server) ListenQUIC(packets *net.UDPConn, base *tls.Config, transport wire.Transport) {
	l := &quicListener{server: s, transport: transport, packets: packets, tls: base.Clone()}
	l.accepting, l.endAll = context.WithCancel(context.Background())
	l.serving, l.end = context.WithCancel(l.accepting)
	l.quic = &quic.Transport{
		Conn:                packets,
		VerifySourceAddress: func(net.Addr) bool { return l.unfinished.Load() > maxUnverified },
		ConnContext:         l.admit,
	}
	s.quic = append(s.quic, l)
}

// listen begins to accept connections.
func (l *quicListener) listen() (err error) {
	protocol, uniStreams := wire.ALPNQUIC, int64(-1) // none
	l.framing = doq{}
	if l.transport == wire.HTTPS {
		protocol, uniStreams, l.framing = wire.ALPNHTTP3, h3UniStreams, h3{}
	}
	l.tls.MinVersion, l.tls.NextProtos = tls.VersionTLS13, []string{protocol}
	l.listener, err = l.quic.Listen(l.tls, &quic.Config{
		HandshakeIdleTimeout: handshakeFor, MaxIdleTimeout: l.server.limits.secureIdle, MaxIncomingStreams: maxStreams, MaxIncomingUniStreams: uniStreams,
		InitialStreamReceiveWindow: quicStreamWindow, MaxStreamReceiveWindow: quicStreamWindow,
		InitialConnectionReceiveWindow: quicWindow, MaxConnectionReceiveWindow: quicWindow,
	})
	if err == nil {
		context.AfterFunc(l.accepting, func() { _ = l.listener.Close() }) // open connections continue
	}
	return err
}

// sessionKey is the key of a connection's quicSession in its context.
type sessionKey struct{}

var errNoPlace = errors.New("no place for another connection")

// admit takes a place for a connection whose first packet has arrived.
func (l *quicListener) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	s, at := l.server, wire.SocketAddr(info.RemoteAddr)
	if s.config.Ignores(at.Port()) {
		return nil, errNoPlace
	}
	q := &quicSession{listener: l, framing: l.framing, last: -1}
	q.sessionBase = sessionBase{server: s, transport: l.transport, client: at.Addr(), slots: make(chan struct{}, maxStreams)}
	// An unverified address may be forged, and the allowance that of another client.
	if !s.config.Serves(q.client) || info.AddrVerified && !s.config.Handshakes.Allow(q.client, s.config.Handshakes.Now()) {
		s.refused.Add(1)
		return nil, errNoPlace
	}
	if !s.enter(q, authorized) {
		return nil, errNoPlace
	}
	l.unfinished.Add(1)
	context.AfterFunc(ctx, func() {
		if q.finish() {
			s.failed.Add(1)
		}
		s.leave(q)
	})
	return context.WithValue(ctx, sessionKey{}, q), nil
}

// accept serves connections until farewell.
func (l *quicListener) accept() {
	for {
		c, err := l.listener.Accept(l.accepting)
		if err != nil {
			return
		}
		q := c.Context().Value(sessionKey{}).(*quicSession)
		q.finish()
		q.conn.Store(c)
		if q.aborted.Load() { // after conn was stored: abort stores the flag before it loads conn
			q.abort()
			continue
		}
		if local := wire.SocketAddr(c.LocalAddr()).Addr(); !local.IsUnspecified() {
			q.local = local
		}
		l.server.handshakes.Add(1)
		l.mu.Lock()
		q.late = l.stopped
		if q.late {
			l.late.Go(func() { q.run(l.accepting) })
		} else {
			l.server.conns.Go(func() { q.run(l.serving) })
		}
		l.mu.Unlock()
	}
}

// stop makes the open connections take no new queries. Their clients may open new ones at once, which are served until farewell: a first packet without an answer would
// cost them a second.
func (l *quicListener) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.end()
}

// farewell ends the connections that were opened after stop, when all others have ended. It reads no packet any more: first packets of clients wait in the socket, for
// the process after this one.
func (l *quicListener) farewell() {
	_ = l.packets.SetReadDeadline(time.Unix(1, 0))
	l.endAll()
	l.late.Wait()
	_ = l.quic.Close()
}

// close closes the socket.
func (l *quicListener) close() {
	l.endAll()
	_ = l.quic.Close()
	_ = l.packets.Close()
}
