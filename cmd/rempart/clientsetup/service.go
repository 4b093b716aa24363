// Package clientsetup writes the settings by which devices and programs use this server over its encrypted transports, as text to paste or as files.
package clientsetup

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"rempart/internal/config"
	"rempart/internal/wire"
)

// Service describes how clients reach a server.
type Service struct {
	Name         string       // its own name: the name by which clients check its certificate
	Organisation string       // that runs it
	Addrs        []netip.Addr // its addresses as clients see them; may be empty
	Path         string       // of DNS over HTTPS
	DNSPort      uint16       // of unencrypted DNS; 0: not served to other machines
	TLSPort      uint16       // of DNS over TLS; 0: not served
	HTTPSPort    uint16       // of DNS over HTTPS; 0: not served
	Link         string       // URL for the QR code; "" for the content that suits the transports
}

// URL returns the URL of DNS over HTTPS.
func (s *Service) URL() string {
	host := s.Name
	if s.HTTPSPort != wire.HTTPS.DefaultPort() {
		host = net.JoinHostPort(host, strconv.Itoa(int(s.HTTPSPort)))
	}
	return "https://" + host + s.Path
}

// Missing is the reason why a client cannot use a server.
type Missing string

func (m Missing) Error() string { return string(m) }

// Reasons why a client cannot use a server.
const (
	noHTTPS     = Missing("it needs DNS over HTTPS: set REMPART_HTTPS_LISTEN=:443")
	noTLS       = Missing("it needs DNS over TLS: set REMPART_TLS_LISTEN=:853")
	noAddresses = Missing("it needs the address of this server, which neither the certificate nor a REMPART_*_LISTEN names: add --address")
	noDNS       = Missing("it needs unencrypted DNS, which other machines cannot reach here: set REMPART_LISTEN=:53")
)

// needHTTPS returns an error unless the server answers DNS over HTTPS.
func (s *Service) needHTTPS() error {
	if s.HTTPSPort == 0 {
		return noHTTPS
	}
	return nil
}

// needUsualTLS returns an error unless the server answers DNS over TLS on the only port that the client can use.
func (s *Service) needUsualTLS() error {
	usual := wire.TLS.DefaultPort()
	switch s.TLSPort {
	case 0:
		return noTLS
	case usual:
		return nil
	}
	return Missing(fmt.Sprintf("it uses DNS over TLS on port %d only, and this server answers on port %d: set REMPART_TLS_LISTEN=:%d", usual, s.TLSPort, usual))
}

// needTLSAddress returns an error unless the server answers DNS over TLS at a known address.
func (s *Service) needTLSAddress() error {
	switch {
	case s.TLSPort == 0:
		return noTLS
	case len(s.Addrs) == 0:
		return noAddresses
	}
	return nil
}

// ServiceOf describes how clients reach the server that c configures. name is its own name. Its addresses as clients see them are those given, else those in its
// certificate, else those on which it listens.
func ServiceOf(c *config.Config, name string, certified []net.IP, given []netip.Addr) *Service {
	s := &Service{
		Name: name, Organisation: c.Organisation, Path: wire.DoHPath,
		TLSPort: usualPort(c.TLSListen, wire.TLS.DefaultPort()), HTTPSPort: usualPort(c.HTTPSListen, wire.HTTPS.DefaultPort()),
	}
	s.DNSPort = usualPort(slices.DeleteFunc(slices.Clone(c.Listen), func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }), wire.UDP.DefaultPort())
	s.add(given...)
	for _, ip := range certified {
		if addr, ok := netip.AddrFromSlice(ip); ok && len(given) == 0 {
			s.add(addr)
		}
	}
	if len(s.Addrs) > 0 {
		return s
	}
	for _, addr := range slices.Concat(c.TLSListen, c.HTTPSListen, c.QUICListen) {
		if !addr.Addr().IsLoopback() {
			s.add(addr.Addr())
		}
	}
	return s
}

// add adds addresses that clients can use.
func (s *Service) add(addrs ...netip.Addr) {
	for _, addr := range addrs {
		if addr = addr.Unmap(); addr.IsValid() && !addr.IsUnspecified() && !slices.Contains(s.Addrs, addr) {
			s.Addrs = append(s.Addrs, addr)
		}
	}
}

// usualPort returns the usual port of a transport if it listens there, else the first port on which it listens, else 0.
func usualPort(listen config.Addrs, usual uint16) uint16 {
	switch {
	case len(listen) == 0:
		return 0
	case slices.ContainsFunc(listen, func(a netip.AddrPort) bool { return a.Port() == usual }):
		return usual
	}
	return listen[0].Port()
}
