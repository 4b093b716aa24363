package refuse

import (
	"crypto/tls"
	"errors"
	"net"
)

// maxHello is the largest size of a ClientHello that is read, in bytes. A ClientHello of a browser has about 2,000.
const maxHello = 16 << 10

// errHelloTooLong is the error of a ClientHello above maxHello.
var errHelloTooLong = errors.New("the ClientHello is too long")

// errHelloRead ends a handshake after the ClientHello.
var errHelloRead = errors.New("the ClientHello has been read")

// readServerName reads a ClientHello and returns the server name in it (SNI), "" if it has none. It sends nothing.
//
// crypto/tls parses the ClientHello, and readServerName then ends the handshake with an error. crypto/tls would send the alert internal_error for it, which
// helloConn drops; it sends unrecognized_name only when it looks for a certificate, in TLS 1.3 after the costly key exchange. So this package sends that alert
// itself.
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
