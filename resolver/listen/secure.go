package listen

import (
	"net"
	"net/netip"

	"rempart/internal/wire"
)

// bindSecure opens the listeners of the encrypted transports.
func (s *Server) bindSecure(c Config) error {
	for _, t := range []struct {
		transport wire.Transport
		addrs     []netip.AddrPort
		setting   string
	}{{wire.TLS, c.TLS, "REMPART_TLS_LISTEN"}, {wire.HTTPS, c.HTTPS, "REMPART_HTTPS_LISTEN"}, {wire.QUIC, c.QUIC, "REMPART_QUIC_LISTEN"}} {
		for _, addr := range t.addrs {
			err := bindAny(addr, func() error { return s.bindOne(addr, t.transport, t.setting, c) })
			if err != nil && !withoutIPv6(err, addr, t.addrs, c.Log) {
				return err
			}
		}
	}
	for _, addr := range c.Backend {
		l, err := c.Binder.Stream("backend", addr)
		switch {
		case err == nil:
			s.streams.ListenBackend(l)
		case !withoutIPv6(err, addr, c.Backend, c.Log):
			return explain("TCP", "REMPART_DOH_BACKEND_LISTEN", addr, err)
		}
	}
	return nil
}

// bindOne opens the sockets of one address: HTTPS has one for HTTP/2 and, with the same port, one for HTTP/3.
func (s *Server) bindOne(addr netip.AddrPort, transport wire.Transport, setting string, c Config) error {
	var over net.Listener
	configured, use := addr, transport.String()
	if transport != wire.QUIC {
		l, err := c.Binder.Stream(use, addr)
		if err != nil {
			return explain("TCP", setting, addr, err)
		}
		over = l
		addr = netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
	}
	if transport != wire.TLS {
		packets, err := c.Binder.onlyPacket(socketName(use+" over udp", configured, 0), addr)
		if err != nil {
			if over != nil {
				over.Close()
			}
			return explain("UDP", setting, addr, err)
		}
		s.streams.ListenQUIC(packets.(*net.UDPConn), c.Secure, transport)
	}
	if over != nil {
		s.streams.Listen(over, transport, c.Secure)
	}
	return nil
}
