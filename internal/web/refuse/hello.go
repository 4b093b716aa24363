package refuse

import (
	"crypto/tls"
	"errors"
	"net"
)

// maxHello is the number of bytes in which a ClientHello must be complete. Those of browsers have about 2,000.
const maxHello = 16 << 10

// errHelloTooLong is the error of a ClientHello above maxHello.
var errHelloTooLong = errors.New("the ClientHello is too long")

// errHelloRead ends a handshake after the ClientHello.
var errHelloRead = errors.New("the ClientHello has been read")

// readServerName reads a ClientHello and returns the server name in it (SNI), "" if it has none. It sends nothing.
//
// crypto/tls parses the ClientHello, as for the encrypted transports. This package sends the alert itself, because crypto/tls sends unrecognized_name only where it
// looks for a certificate, which is after the key exchange, and other alerts before.
func readServerName(c net.Conn) (name string, err error) {
	server := tls.Server(&helloConn{Conn: c, left: maxHello}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errHelloRead
		},
	})
	if err = server.Handshake(); errors.Is(err, errHelloRead) {
		return name, nil
	}
	return "", err
}

// helloConn is a connection from which a bounded number of bytes can be read, and to which nothing is written.
type helloConn struct {
	net.Conn
	left int
}

func (c *helloConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errHelloTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Write drops the alert that crypto/tls sends.
func (c *helloConn) Write(p []byte) (int, error) { return len(p), nil }
