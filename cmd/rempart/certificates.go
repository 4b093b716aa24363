package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/reload"

	"github.com/prometheus/client_golang/prometheus"
)

// publicCertificates are the certificates of the encrypted transports. They come from files (REMPART_CERT) or from an ACME authority (REMPART_ACME).
type publicCertificates interface {
	prometheus.Collector

	// TLS returns the TLS settings of a server with the certificates.
	TLS() *tls.Config
	// Leaves returns the certificates in use; the first one names this resolver.
	Leaves() []*x509.Certificate
	// Run replaces certificates by newer ones until ctx ends. The listeners must be open.
	Run(ctx context.Context) error
	// Reload looks for newer certificates now.
	Reload()
	// Files returns the files of certificates, which other programs write.
	Files() reload.Files
}

// openCertificates opens the certificates of the encrypted transports, if there are any. The page then also answers the challenges of an ACME authority.
func (s *server) openCertificates() (err error) {
	switch {
	case len(s.config.ACME) > 0:
		issued, err := certificates.NewACME(s.config, s.forward.Dialer().DialContext, s.log)
		if err != nil {
			return err
		}
		s.secure, s.page = issued, issued.Page(s.page)
	case len(s.config.Cert) > 0:
		s.secure, err = certificates.NewPublic(s.config, s.log)
	}
	return err
}

// portalTLS returns the TLS settings of the portal; nil without certificates.
func (s *server) portalTLS() *tls.Config {
	if s.secure == nil {
		return nil
	}
	return s.secure.TLS()
}
