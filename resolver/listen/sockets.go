package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ReceiveRoom is the size of the receive buffer in bytes that each UDP socket asks the kernel for.
const ReceiveRoom = 4 << 20

// Sockets holds sockets that outlive the process, by name.
type Sockets interface {
	// Take returns the socket that an earlier process left under a name; nil if there is none. The caller closes it.
	Take(name string) *os.File
	// Drop removes the sockets of a name from those that outlive the process.
	Drop(name string)
	// Keep leaves a copy of a socket to later processes.
	Keep(name string, socket syscall.Conn)
	// Release closes the sockets of an earlier process that nobody took, and of whose names is reports true. It reports whether there were any.
	Release(is func(name string) bool) bool
}

// Binder opens sockets, or uses those that an earlier process left, so that no query is lost between two processes. With nil Sockets it opens all of them.
type Binder struct{ Sockets Sockets }

// Stream opens a TCP listener on addr for one use, such as "tls", as the function Stream does.
func (b Binder) Stream(use string, addr netip.AddrPort) (net.Listener, error) {
	return bound(b, socketName(use, addr, 0), addr, fileListener, func() (net.Listener, error) { return Stream(addr) })
}

// sharedPacket opens one of the UDP sockets that share addr, as Packet does.
func (b Binder) sharedPacket(name string, addr netip.AddrPort) (net.PacketConn, error) {
	return bound(b, name, addr, filePacket, func() (net.PacketConn, error) { return Packet(addr) })
}

// onlyPacket opens a UDP socket that shares addr with no other.
func (b Binder) onlyPacket(name string, addr netip.AddrPort) (net.PacketConn, error) {
	return bound(b, name, addr, filePacket, func() (net.PacketConn, error) {
		lc := net.ListenConfig{Control: controlAlone}
		return lc.ListenPacket(context.Background(), network("udp", addr), addr.String())
	})
}

// fileListener returns the TCP listener in f.
func fileListener(f *os.File) (net.Listener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if _, ok := l.(*net.TCPListener); !ok {
		l.Close()
		return nil, errors.ErrUnsupported
	}
	return l, nil
}

// filePacket returns the UDP socket in f.
func filePacket(f *os.File) (net.PacketConn, error) {
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	if _, ok := c.(*net.UDPConn); !ok {
		c.Close()
		return nil, errors.ErrUnsupported
	}
	return c, nil
}

// bound returns the socket that an earlier process left under a name, or opens one on addr and leaves it to later processes. A descriptor that is no such socket is dropped, as is
// a socket at a link-local address whose interface was replaced by another one of the same name:
// with an error instead, no start would ever succeed, because systemd passes the descriptor to each process. If sockets of the earlier process have the
// address, because the settings have changed since (from 127.0.0.1 to all addresses, say), they are closed first.
func bound[T io.Closer](b Binder, name string, addr netip.AddrPort, open func(*os.File) (T, error), bind func() (T, error)) (socket T, err error) {
	if b.Sockets == nil {
		return bind()
	}
	if f := b.Sockets.Take(name); f != nil {
		socket, err = open(f)
		f.Close() // net made a copy of the descriptor
		if err == nil && isAt(socket, addr) {
			return socket, nil
		}
		if err == nil {
			socket.Close()
		}
		b.Sockets.Drop(name)
	}
	socket, err = bind()
	if errors.Is(err, syscall.EADDRINUSE) && b.Sockets.Release(func(name string) bool { return hasPort(name, addr.Port()) }) {
		socket, err = bind()
	}
	if err == nil {
		if s, ok := any(socket).(syscall.Conn); ok {
			b.Sockets.Keep(name, s)
		}
	}
	return socket, err
}

// isAt reports whether a socket is bound to an address and can serve any client there: a TCP socket must listen, and a UDP socket must not be connected to a peer.
// Port 0 matches every port.
func isAt(socket any, addr netip.AddrPort) bool {
	var local netip.AddrPort
	switch s := socket.(type) {
	case *net.TCPListener:
		if !isListening(s) {
			return false
		}
		local = s.Addr().(*net.TCPAddr).AddrPort()
	case *net.UDPConn:
		if s.RemoteAddr() != nil {
			return false
		}
		local = s.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return local.Addr().Unmap() == addr.Addr().Unmap() && (addr.Port() == 0 || local.Port() == addr.Port())
}

// socketName returns the name of a socket: its use, its address and its number among the sockets with the same use and address. It has no colon.
func socketName(use string, addr netip.AddrPort, number int) string {
	return fmt.Sprintf("%s %s %d %d", use, strings.ReplaceAll(addr.Addr().String(), ":", "_"), addr.Port(), number)
}

// hasPort reports whether the name of a socket has a port.
func hasPort(name string, port uint16) bool {
	fields := strings.Fields(name)
	return len(fields) > 1 && fields[len(fields)-2] == strconv.Itoa(int(port))
}

// Unanswered is a UDP query that a process received and could not answer before its end. The process after it answers the query.
type Unanswered struct {
	Socket        string // name of the socket that received it
	Packet        []byte // the query
	Client, Local netip.Addr
	Peer          []byte // where the answer goes, and control messages of the answer, in the kernel's form
	Control       []byte
}
