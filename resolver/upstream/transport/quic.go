package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"rempart/internal/wire"
)

// Error codes of DNS over QUIC (RFC 9250 section 4.3).
const (
	doqNoError          = 0x0
	doqRequestCancelled = 0x3
)

const (
	retireAfter      = 5 * time.Second // time from the replacement of a connection until it is closed, by which its questions have ended
	quicStreamWindow = 128 << 10       // bytes that an upstream may send on one stream, and on one connection, before they are read
	quicLinkWindow   = 4 << 20
)

// quicClient asks one upstream over QUIC (RFC 9250): each question has a stream of its own on one connection, which is opened when it is needed. No question is
// sent as early data, because an observer could repeat it.
type quicClient struct {
	requests
	endpoint Endpoint
	dial     func(context.Context) (*quic.Conn, error)
	group    group

	mu      sync.Mutex
	current *quicLink // nil if there is none
}

// quicLink is a connection: being opened, open or closed.
type quicLink struct {
	opened chan struct{} // closed when conn or err is set
	conn   *quic.Conn
	err    error
}

// newQUICClient makes a client. It opens nothing yet. Its connections are closed when the context of c ends.
func newQUICClient(c *Config) *quicClient {
	e := c.Endpoint
	secure := tlsConfig(e, c.RootCAs, wire.ALPNQUIC)
	config := &quic.Config{
		HandshakeIdleTimeout: dialTimeout, MaxIdleTimeout: secureIdle, TokenStore: quic.NewLRUTokenStore(1, sessionsKept),
		MaxIncomingStreams: -1, MaxIncomingUniStreams: -1,
		InitialStreamReceiveWindow: quicStreamWindow, MaxStreamReceiveWindow: quicStreamWindow,
		InitialConnectionReceiveWindow: quicStreamWindow, MaxConnectionReceiveWindow: quicLinkWindow,
	}
	dial := func(ctx context.Context) (*quic.Conn, error) {
		return quic.DialAddr(ctx, e.Addr.String(), secure, config)
	}
	client := &quicClient{endpoint: e, dial: dial, group: group{c.Context, c.Start}}
	client.send, client.spend = client.exchange, c.Spend
	return client
}

// exchange sends a query on a stream of its own, and returns the message that answers it. The error is ErrDied if the connection ended.
func (c *quicClient) exchange(ctx context.Context, frame []byte) ([]byte, error) {
	conn, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	msg, err := exchangeOver(ctx, conn, frame)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = fmt.Errorf("waiting over QUIC: %w", context.Cause(ctx))
	case errors.Is(err, errMalformed):
	case errors.As(err, new(*quic.StreamError)): // the upstream ended this stream only
		err = fmt.Errorf("%w: %w", errMalformed, err)
	default:
		err = fmt.Errorf("%w: %w", ErrDied, err)
		select {
		case <-conn.Context().Done(): // a moment later than its streams; until then, connection would return conn again
		case <-ctx.Done():
		}
	}
	return msg, err
}

// exchangeOver sends a query on a new stream of conn, and reads the answer.
func exchangeOver(ctx context.Context, conn *quic.Conn, frame []byte) ([]byte, error) {
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		s.CancelRead(doqRequestCancelled)
		s.CancelWrite(doqRequestCancelled)
	})
	defer stop()
	defer s.CancelRead(doqNoError) // has no effect after the end of the stream
	if _, err := s.Write(frame); err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil { // the upstream may wait for the end of the stream (RFC 9250 section 4.2)
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(s, 2+wire.MaxMessage+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) < 2 || len(data) != 2+int(binary.BigEndian.Uint16(data)):
		return nil, fmt.Errorf("%w: the stream of an answer has another length than its message", errMalformed)
	}
	return data[2:], nil
}

// connection returns the connection for new questions, and opens it if there is none.
func (c *quicClient) connection(ctx context.Context) (*quic.Conn, error) {
	c.mu.Lock()
	l := c.current
	if l == nil || l.isClosed() {
		l = &quicLink{opened: make(chan struct{})}
		if !c.group.start(func() { c.open(l) }) {
			c.mu.Unlock()
			return nil, net.ErrClosed
		}
		c.current = l
	}
	c.mu.Unlock()
	select {
	case <-l.opened:
		return l.conn, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a connection: %w", context.Cause(ctx))
	}
}

// isClosed reports whether the connection could not be opened or has ended.
func (l *quicLink) isClosed() bool {
	select {
	case <-l.opened:
		return l.err != nil || l.conn.Context().Err() != nil
	default:
		return false
	}
}

// open opens a connection, and closes it when the group ends.
func (c *quicClient) open(l *quicLink) {
	ctx, cancel := context.WithTimeout(c.group.ctx, dialTimeout)
	defer cancel()
	l.conn, l.err = c.dial(ctx)
	if l.err != nil {
		var failure *quic.TransportError
		if errors.As(l.err, &failure) && failure.ErrorCode.IsCryptoError() {
			l.err = handshakeError(c.endpoint, l.err)
		}
		l.err = fmt.Errorf("%w: %w", errConnecting, l.err)
		close(l.opened)
		return
	}
	close(l.opened)
	select {
	case <-l.conn.Context().Done():
	case <-c.group.ctx.Done():
		l.close()
	}
}

// close closes an open connection.
func (l *quicLink) close() { l.conn.CloseWithError(doqNoError, "") }

// retire makes new questions use another connection. The connection in use is closed when its questions have ended.
func (c *quicClient) retire() {
	c.mu.Lock()
	l := c.current
	c.current = nil
	c.mu.Unlock()
	if l == nil {
		return
	}
	time.AfterFunc(retireAfter, func() {
		<-l.opened
		if l.err == nil {
			l.close()
		}
	})
}
