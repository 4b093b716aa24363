package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"rempart/internal/pause"
	"rempart/internal/wire"
)

const (
	maxRequests  = 1024                  // questions in flight to an upstream over HTTPS or QUIC
	maxLinks     = 16                    // HTTP/2 connections to one upstream: each takes as many questions as the upstream allows, mostly 100 or more
	secureIdle   = 30 * time.Second      // an unused HTTP/2 or QUIC connection is closed
	pingAfter    = time.Second           // time without a frame, with questions in flight, after which an HTTP/2 connection is tested
	pingTimeout  = 2 * time.Second       // time to answer that test
	roomCheck    = 20 * time.Millisecond // time between two looks for room while all connections are full
	maxHTTPHead  = 16 << 10              // bytes of the head of a response
	messageMedia = "application/dns-message"
)

// httpsClient asks one upstream over HTTPS (RFC 8484): each question is one POST request over HTTP/2. A request has no header that identifies this
// program, its version or its language. Redirects are not followed.
type httpsClient struct {
	requests
	url  string
	open func() *http.Transport

	mu      sync.Mutex
	current *http.Transport // holds the connections for new questions
}

// newHTTPSClient makes a client. It opens nothing yet. Its connections are closed when the context of c ends.
func newHTTPSClient(c *Config, dial dialFunc) *httpsClient {
	e := c.Endpoint
	links := make(chan struct{}, maxLinks)
	plain := func(ctx context.Context) (net.Conn, error) {
		select {
		case links <- struct{}{}:
		default:
			return nil, errFull
		}
		conn, err := dial(ctx, "tcp", e.Addr.String())
		if err != nil {
			<-links
			return nil, err
		}
		stop := context.AfterFunc(c.Context, func() { conn.Close() })
		return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { stop(); <-links })}, nil
	}
	secure := dialTLS(e, tlsConfig(e, c.RootCAs, wire.ALPNHTTP2), plain)
	h := &httpsClient{url: requestURL(e)}
	h.send, h.spend = h.postWithRoom, c.Spend
	h.open = func() *http.Transport {
		only2 := new(http.Protocols)
		only2.SetHTTP2(true)
		return &http.Transport{
			Protocols:              only2,
			MaxConnsPerHost:        1, // not counting connections without room: questions wait while one is opened, instead of opening one each
			MaxIdleConnsPerHost:    maxLinks,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: writeTimeout},
			IdleConnTimeout:        secureIdle,
			MaxResponseHeaderBytes: maxHTTPHead,
			DisableCompression:     true,
			DialTLSContext: func(dialling context.Context, _, _ string) (net.Conn, error) {
				dialling, cancel := context.WithTimeout(dialling, dialTimeout)
				defer cancel()
				conn, err := secure(dialling)
				if err != nil {
					return nil, fmt.Errorf("%w: %w", errConnecting, err)
				}
				if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != wire.ALPNHTTP2 {
					conn.Close()
					return nil, fmt.Errorf("%w: %w: the server does not support HTTP/2", errConnecting, errHandshake)
				}
				return conn, nil
			},
		}
	}
	h.current = h.open()
	return h
}

// requestURL returns the URL of requests to e.
func requestURL(e Endpoint) string {
	host := e.Name
	if host == "" {
		host = e.Addr.Addr().WithZone("").String()
	}
	if e.Addr.Port() != HTTPS.port() {
		host = net.JoinHostPort(host, strconv.Itoa(int(e.Addr.Port())))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "https://" + host + e.Path
}

// countedConn is a connection that calls closed when it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// postWithRoom calls post until there is room for a question: an upstream may allow few questions on one connection.
func (h *httpsClient) postWithRoom(ctx context.Context, framed []byte) ([]byte, error) {
	for {
		msg, err := h.post(ctx, framed[2:])
		if !errors.Is(err, errFull) || !pause.For(ctx, roomCheck) {
			return msg, err
		}
	}
}

// post sends a query, and returns the message in the response. The error is ErrDied if a connection ended.
func (h *httpsClient) post(ctx context.Context, query []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{"Content-Type": {messageMedia}, "Accept": {messageMedia}, "User-Agent": nil}
	h.mu.Lock()
	via := h.current
	h.mu.Unlock()
	response, err := via.RoundTrip(request)
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("waiting over HTTPS: %w", context.Cause(ctx))
	case err != nil && !errors.Is(err, errConnecting):
		err = fmt.Errorf("%w: %w", ErrDied, err)
	}
	if err != nil {
		if response != nil {
			response.Body.Close()
		}
		return nil, err
	}
	defer response.Body.Close()
	msg, err := readResponse(response)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("waiting over HTTPS: %w", context.Cause(ctx))
	}
	return msg, err
}

// statusError returns the error of a response with another status than 200. It is not errMalformed if the server answers no question under this URL.
func statusError(status int) error {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusPermanentRedirect, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return fmt.Errorf("HTTP status %d: the path of the URL is wrong", status)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("HTTP status %d: the server does not accept queries from here, or the path of the URL is wrong", status)
	}
	return fmt.Errorf("%w: HTTP status %d", errMalformed, status)
}

// readResponse returns the message in a response.
func readResponse(response *http.Response) ([]byte, error) {
	if response.StatusCode != http.StatusOK {
		return nil, statusError(response.StatusCode)
	}
	if media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || media != messageMedia {
		return nil, fmt.Errorf("%w: the response has the content type %.60q instead of %s", errMalformed, response.Header.Get("Content-Type"), messageMedia)
	}
	msg, err := io.ReadAll(io.LimitReader(response.Body, wire.MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDied, err)
	}
	if len(msg) > wire.MaxMessage {
		return nil, fmt.Errorf("%w: longer than %d bytes", errMalformed, wire.MaxMessage)
	}
	if age, err := strconv.ParseUint(response.Header.Get("Age"), 10, 32); err == nil && age > 0 {
		shortenTTLs(msg, uint32(age))
	}
	return msg, nil
}

// shortenTTLs subtracts from all TTLs the time, in seconds, for which an HTTP cache kept the message (RFC 8484 section 5.1).
func shortenTTLs(msg []byte, age uint32) {
	if len(msg) < wire.HeaderLen {
		return
	}
	records := wire.ReadRecords(msg)
	var rr wire.Record
	for records.Next(&rr) {
		if rr.Type != wire.TypeOPT {
			binary.BigEndian.PutUint32(msg[rr.TTLAt:], rr.TTL-min(rr.TTL, age))
		}
	}
}

// retire makes new questions use other connections. Connections in use are closed when their questions have ended.
func (h *httpsClient) retire() {
	h.mu.Lock()
	old := h.current
	h.current = h.open()
	h.mu.Unlock()
	old.CloseIdleConnections()
	time.AfterFunc(retireAfter, old.CloseIdleConnections) // those that were in use
}
