//go:build !unix

package stream

import "net"

// socket reads a TCP connection.
type socket struct{ conn *net.TCPConn }

// read reads into the room of a.
func (s *socket) read(a *arrivals) (int, error) { return s.conn.Read(a.room()) }
