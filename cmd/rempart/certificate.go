package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/internal/config"
	"rempart/internal/durable"
)

const (
	// expiryWarning is how long before a certificate expires the log warns.
	expiryWarning = 14 * 24 * time.Hour
	// expiryEvery is how often it warns.
	expiryEvery = 24 * time.Hour
)

// serverCertificate is the certificate of REMPART_PUSH_CERT, which the operators' API and policy zones share, and the authorities of client
// certificates. Both are read again when their files change.
type serverCertificate struct {
	log     *slog.Logger
	pair    *reloadable[*tls.Certificate]
	clients *reloadable[*x509.CertPool] // nil: no client certificates
}

// newServerCertificate reads the certificate that the settings name; it returns nil if they name none.
func newServerCertificate(c *config.Config, log *slog.Logger) (*serverCertificate, error) {
	if c.PushCert == "" {
		return nil, nil
	}
	s := &serverCertificate{log: log}
	started := false
	var err error
	s.pair, err = newReloadable(log, "REMPART_PUSH_CERT", []string{c.PushCert, c.PushKey}, func() (*tls.Certificate, error) {
		pair, err := readPair(c.PushCert, c.PushKey)
		if err == nil && started { // a start with an expired certificate is better than none
			err = validNow(pair.Leaf, time.Now())
		}
		return pair, err
	})
	if err != nil {
		return nil, config.Bad("PUSH_CERT", c.PushCert, err.Error())
	}
	started = true
	if c.PushClientCA == "" {
		return s, nil
	}
	s.clients, err = newReloadable(log, "REMPART_PUSH_CLIENT_CA", []string{c.PushClientCA}, func() (*x509.CertPool, error) { return certificates(c.PushClientCA) })
	if err != nil {
		return nil, config.Bad("PUSH_CLIENT_CA", c.PushClientCA, err.Error())
	}
	return s, nil
}

// readPair reads a certificate and its key.
func readPair(certificate, key string) (*tls.Certificate, error) {
	pair, err := loadPair(certificate, key)
	if err == nil && pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certificate, key, err)
	}
	return &pair, nil
}

// maxCertificates is the number of bytes of a file of certificates, or of a key, at most.
const maxCertificates = 4 << 20

// loadPair is tls.LoadX509KeyPair for regular files of a bounded size.
func loadPair(certificate, key string) (tls.Certificate, error) {
	certificates, err := durable.ReadRegular(certificate, maxCertificates)
	if err != nil {
		return tls.Certificate{}, err
	}
	secret, err := durable.ReadRegular(key, maxCertificates)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificates, secret)
}

// validNow returns an error unless a certificate is valid at that time.
func validNow(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s", moment(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s: is the clock right?", moment(leaf.NotBefore))
	}
	return nil
}

// names reports whether the certificate in use is one of a name.
func (s *serverCertificate) names(name string) bool {
	return s.pair.get().Leaf.VerifyHostname(name) == nil
}

// server returns the TLS settings of a server that asks for no client certificate.
func (s *serverCertificate) server() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.get(), nil },
	}
}

// api returns the TLS settings of the operators' API, which a client certificate may identify a caller to.
func (s *serverCertificate) api() *tls.Config {
	t := s.server()
	if t == nil {
		return nil
	}
	t.NextProtos = []string{"h2", "http/1.1"}
	if s.clients == nil {
		return t
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	t.SessionTicketsDisabled = true // a resumed session would carry a certificate that earlier authorities vouched for
	base := t.Clone()
	t.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = s.clients.get()
		return now, nil
	}
	return t
}

// files returns the files that are read again.
func (s *serverCertificate) files() (all []reloadableFile) {
	if s == nil {
		return nil
	}
	all = append(all, s.pair)
	if s.clients != nil {
		all = append(all, s.clients)
	}
	return all
}

// warn warns before the certificate in use expires, until ctx ends.
func (s *serverCertificate) warn(ctx context.Context) error {
	if s == nil {
		return nil
	}
	ticker := time.NewTicker(expiryEvery)
	defer ticker.Stop()
	for {
		s.warnExpiry(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// warnExpiry logs that the certificate in use expires soon, or has expired.
func (s *serverCertificate) warnExpiry(now time.Time) {
	end := s.pair.get().Leaf.NotAfter
	switch left := end.Sub(now); {
	case left <= 0:
		s.log.Error("the certificate has expired: clients and servers refuse it; renew it", "setting", s.pair.name, "path", s.pair.paths[0], "expired", moment(end))
	case left <= expiryWarning:
		s.log.Warn("the certificate expires soon: renew it", "setting", s.pair.name, "path", s.pair.paths[0], "expires", moment(end), "days", int(left/(24*time.Hour)))
	}
}

var (
	certificateEnd = prometheus.NewDesc("rempart_certificate_expiry_timestamp_seconds",
		"When the certificate in use expires, in Unix seconds.", []string{"setting"}, nil)
	certificateRefused = prometheus.NewDesc("rempart_certificate_unusable",
		"1 while a changed certificate file cannot be used and its earlier content stays in use.", []string{"setting"}, nil)
)

// Describe is prometheus.Collector's.
func (s *serverCertificate) Describe(to chan<- *prometheus.Desc) {
	to <- certificateEnd
	to <- certificateRefused
}

// Collect is prometheus.Collector's.
func (s *serverCertificate) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(certificateEnd, prometheus.GaugeValue, float64(s.pair.get().Leaf.NotAfter.Unix()), s.pair.name)
	for _, f := range s.files() {
		value := 0.0
		if f.refused() {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(certificateRefused, prometheus.GaugeValue, value, f.setting())
	}
}

// newAuthorities reads the certificates of REMPART_CONTROL_CA; it returns nil if it is empty, for those of the system.
func newAuthorities(c *config.Config, log *slog.Logger) (*reloadable[*x509.CertPool], error) {
	if c.ControlCA == "" {
		return nil, nil
	}
	r, err := newReloadable(log, "REMPART_CONTROL_CA", []string{c.ControlCA}, func() (*x509.CertPool, error) { return certificates(c.ControlCA) })
	if err != nil {
		return nil, config.Bad("CONTROL_CA", c.ControlCA, err.Error())
	}
	return r, nil
}

// certificates reads a file of PEM certificates.
func certificates(path string) (*x509.CertPool, error) {
	pem, err := durable.ReadRegular(path, maxCertificates)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}
