package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"

	"rempart/cmd/rempart/clientsetup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/internal/web/portal"
	"rempart/internal/wire"
)

// devices returns how the devices of readers use this server.
func (s *server) devices() portal.Devices {
	var d portal.Devices
	if s.config.IsEncrypted() {
		if service := s.clientService(); service != nil {
			s.describeEncrypted(&d, service)
		}
	}
	for _, addr := range s.dnsAt {
		if a := addr.Addr(); addr.Port() == wire.UDP.DefaultPort() && !a.IsLoopback() && !a.IsUnspecified() {
			d.Addresses = append(d.Addresses, a.String())
		}
	}
	return d
}

// clientService describes this server to clients; nil while it has no certificate, whose name clients check.
func (s *server) clientService() *clientsetup.Service {
	var certified []net.IP
	name := ""
	if leaves := s.secure.Leaves(); len(leaves) > 0 {
		if _, own, err := certificates.OwnName(leaves[0]); err == nil {
			name, certified = own, leaves[0].IPAddresses
		}
	}
	if name == "" {
		return nil
	}
	return clientsetup.ServiceOf(s.config, name, certified, nil)
}

// describeEncrypted sets what devices need for the encrypted transports. The page leaves out settings that stay empty here.
func (s *server) describeEncrypted(d *portal.Devices, service *clientsetup.Service) {
	if service.TLSPort == wire.TLS.DefaultPort() {
		d.Name = service.Name
	}
	if service.HTTPSPort == 0 {
		return
	}
	d.URL = service.URL()
	for _, section := range clientsetup.Sections() {
		switch section.Name {
		case "windows":
			d.Windows, _ = section.Text(service) // impossible without an address: the page then has no commands
		case clientsetup.Apple:
			d.Profile = func() ([]byte, error) {
				text, err := section.Text(service)
				if err != nil {
					return nil, err
				}
				return s.signProfile([]byte(text)), nil
			}
		}
	}
}

// signProfile signs a profile with this server's certificate. Without a usable key the profile stays unsigned, and devices say so.
func (s *server) signProfile(profile []byte) []byte {
	c, err := s.secure.TLS().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || c == nil {
		return profile
	}
	chain, err := x509.ParseCertificates(slices.Concat(c.Certificate...))
	if err != nil {
		return profile
	}
	signed, err := clientsetup.Sign(profile, chain, c.PrivateKey)
	if err != nil {
		return profile
	}
	return signed
}
