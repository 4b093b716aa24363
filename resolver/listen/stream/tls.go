package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"time"

	"rempart/internal/wire"
)

const (
	recordHeader = 5                             // of a TLS record: its length is in the last two bytes (RFC 8446 section 5.1)
	recordRoom   = recordHeader + 16<<10 + 2<<10 // the largest record (RFC 5246 section 6.2.3; smaller in TLS 1.3)
	protocolHTTP = "http/1.1"                    // offered only to answer that it is not supported
	handshakeFor = 5 * time.Second               // for a TLS handshake
	handshakeNow = 2 * time.Second               // the same while half of all connections are taken, and of unauthorized clients
)

// errUnauthorized ends the handshake of an unauthorized client before it is computed.
var errUnauthorized = errors.New("the client may not ask")

// serverTLS returns the settings of TLS for a transport over TCP, based on certificates.
func serverTLS(base *tls.Config, transport wire.Transport) *tls.Config {
	c := base.Clone()
	c.DynamicRecordSizingDisabled = true // answers of a batch leave in one record
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, hello.Conn.(*records).admit(hello, base)
	}
	switch transport {
	case wire.HTTPS:
		c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{wire.ALPNHTTP2, protocolHTTP}
	default:
		c.MinVersion, c.NextProtos = tls.VersionTLS12, []string{wire.ALPNTLS}
	}
	c.NextProtos = append(c.NextProtos, base.NextProtos...)
	return c
}

// records is the socket of a TLS connection as crypto/tls sees it. Each Read returns data of one record only, so that the connection knows which records
// crypto/tls has not seen yet.
type records struct {
	net.Conn // for writing and for deadlines
	c        *connection
	left     int  // bytes of the present record that crypto/tls has not read yet
	open     bool // the handshake is over: data arrives in the workspace
	header   [recordHeader]byte
	headerAt int // bytes of the header that were received, during the handshake

	turns chan struct{} // one is taken by each handshake that computes
	turn  bool
}

// newTurns returns the turns of handshakes: at most half of the cores compute them, so that a flood of handshakes leaves time for queries.
func newTurns() chan struct{} { return make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)) }

// admit decides whether the handshake continues, and waits for its turn. It is called when the client's first message was read. A client that offers only
// protocols of base, such as the authority that checks an ACME challenge, needs a certificate for its protocol and name; any other must be authorized.
func (r *records) admit(hello *tls.ClientHelloInfo, base *tls.Config) error {
	other := len(hello.SupportedProtos) > 0
	for _, p := range hello.SupportedProtos {
		other = other && slices.Contains(base.NextProtos, p)
	}
	if other {
		if _, err := base.GetCertificate(hello); err != nil {
			return err
		}
	} else if r.c.class == unauthorized {
		return errUnauthorized
	}
	return r.begin(hello.Context())
}

// begin waits for the turn of this handshake.
func (r *records) begin(ctx context.Context) error {
	select {
	case r.turns <- struct{}{}:
		r.turn = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end frees the turn.
func (r *records) end() {
	if r.turn {
		r.turn = false
		<-r.turns
	}
}

// Write sends records. The first ones are the server's part of the handshake, after which the server waits for the client.
func (r *records) Write(p []byte) (int, error) {
	r.end()
	return r.Conn.Write(p)
}

// Read returns data of one record.
func (r *records) Read(p []byte) (int, error) {
	if !r.open {
		return r.readExactly(p)
	}
	for r.left == 0 {
		if r.c.whole() {
			r.left = r.c.next()
			break
		}
		if err := r.c.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(len(p), r.left)], r.c.ws.records[r.c.ws.at:])
	if n == 0 { // a record that is larger than TLS allows: crypto/tls saw its header and waits for more than there is room for
		return 0, io.ErrUnexpectedEOF
	}
	r.left -= n
	r.c.ws.at += n
	return n, nil
}

// readExactly reads from the socket, and never further than to the end of a record's header or of a record.
func (r *records) readExactly(p []byte) (int, error) {
	if r.left > 0 {
		n, err := r.Conn.Read(p[:min(len(p), r.left)])
		r.left -= n
		return n, err
	}
	n, err := r.Conn.Read(p[:min(len(p), recordHeader-r.headerAt)])
	copy(r.header[r.headerAt:], p[:n])
	if r.headerAt += n; r.headerAt == recordHeader {
		r.headerAt, r.left = 0, int(r.header[3])<<8+int(r.header[4])
	}
	return n, err
}

// next returns the length of the first record that has arrived, with its header; 0 if the header has not arrived.
func (c *connection) next() int {
	if c.ws == nil || len(c.ws.records)-c.ws.at < recordHeader {
		return 0
	}
	header := c.ws.records[c.ws.at:]
	return recordHeader + int(header[3])<<8 + int(header[4])
}

// whole reports whether the first record has arrived completely, or is too large to arrive.
func (c *connection) whole() bool {
	n := c.next()
	return n > 0 && (n <= len(c.ws.records)-c.ws.at || n > recordRoom)
}

// handshake makes a TLS connection of a new connection, and returns the negotiated protocol.
func (c *connection) handshake(ctx context.Context, config *tls.Config) (protocol string, err error) {
	c.layer = &records{Conn: c.conn, c: c, turns: c.server.turns}
	c.secure = tls.Server(c.layer, config)
	defer c.layer.end()
	by := handshakeFor
	if c.class == unauthorized || c.server.pressed() {
		by = handshakeNow
	}
	ctx, cancel := context.WithTimeout(ctx, by)
	defer cancel()
	_ = c.conn.SetDeadline(time.Now().Add(by))
	if err := c.secure.HandshakeContext(ctx); err != nil {
		if errors.Is(err, io.EOF) {
			return "", io.EOF // the client closed a connection without a handshake, as monitoring does
		}
		return "", err
	}
	_ = c.conn.SetDeadline(time.Time{})
	c.layer.open, c.arrivals.records = true, true
	return c.secure.ConnectionState().NegotiatedProtocol, nil
}
