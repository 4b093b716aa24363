package setup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/cmd/rempart/report"
	"rempart/internal/config"
	"rempart/internal/durable"
)

const (
	// expiryWarning is the time before the expiry of a certificate from which on warnings are logged.
	expiryWarning = 14 * 24 * time.Hour
	// expiryEvery is the time between two warnings.
	expiryEvery = 24 * time.Hour
)

// ServerCertificate is the certificate of REMPART_PUSH_CERT, which the operators' API and policy zones share, and the authorities for client certificates. Both
// are loaded again when their files change.
type ServerCertificate struct {
	log     *slog.Logger
	pair    *Reloadable[*tls.Certificate]
	clients *Reloadable[*x509.CertPool] // nil: no client certificates
}

// NewServerCertificate reads the certificate that the settings name; it returns nil if they name none.
func NewServerCertificate(c *config.Config, log *slog.Logger) (*ServerCertificate, error) {
	if c.PushCert == "" {
		return nil, nil
	}
	s := &ServerCertificate{log: log}
	started := false
	var err error
	s.pair, err = newReloadable(log, "REMPART_PUSH_CERT", []string{c.PushCert, c.PushKey}, func() (*tls.Certificate, error) {
		pair, err := readPair(c.PushCert, c.PushKey)
		if err == nil && started { // an expired certificate does not prevent a start
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
	s.clients, err = newReloadable(log, "REMPART_PUSH_CLIENT_CA", []string{c.PushClientCA}, func() (*x509.CertPool, error) { return ReadCertificates(c.PushClientCA) })
	if err != nil {
		return nil, config.Bad("PUSH_CLIENT_CA", c.PushClientCA, err.Error())
	}
	return s, nil
}

// readPair reads a certificate and its key.
func readPair(certificate, key string) (*tls.Certificate, error) {
	pair, err := LoadKeyPair(certificate, key)
	if err == nil && pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certificate, key, err)
	}
	return &pair, nil
}

// maxCertificates is the largest size of a file of certificates or of a key, in bytes.
const maxCertificates = 4 << 20

// LoadKeyPair is like tls.LoadX509KeyPair, but accepts only regular files of a limited size.
func LoadKeyPair(certificate, key string) (tls.Certificate, error) {
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

// validNow returns an error unless the certificate is valid at the time now.
func validNow(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s", report.Moment(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s: is the clock right?", report.Moment(leaf.NotBefore))
	}
	return nil
}

// HasName reports whether the certificate in use is valid for a host name.
func (s *ServerCertificate) HasName(name string) bool {
	return s.pair.get().Leaf.VerifyHostname(name) == nil
}

// ServerTLS returns the TLS settings of a server that does not request client certificates. It returns nil for a nil certificate.
func (s *ServerCertificate) ServerTLS() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.get(), nil },
	}
}

// APITLS returns the TLS settings of the operators' API, where a client certificate can identify the caller. It returns nil for a nil certificate.
func (s *ServerCertificate) APITLS() *tls.Config {
	t := s.ServerTLS()
	if t == nil {
		return nil
	}
	t.NextProtos = []string{"h2", "http/1.1"}
	if s.clients == nil {
		return t
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	t.SessionTicketsDisabled = true // a resumed session would keep a certificate that only earlier authorities issued
	base := t.Clone()
	t.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = s.clients.get()
		return now, nil
	}
	return t
}

// Files returns the files that are loaded again when they change.
func (s *ServerCertificate) Files() (all []ReloadableFile) {
	if s == nil {
		return nil
	}
	all = append(all, s.pair)
	if s.clients != nil {
		all = append(all, s.clients)
	}
	return all
}

// RunWarnings logs warnings before the certificate in use expires. It returns when ctx ends.
func (s *ServerCertificate) RunWarnings(ctx context.Context) error {
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
func (s *ServerCertificate) warnExpiry(now time.Time) {
	end := s.pair.get().Leaf.NotAfter
	switch left := end.Sub(now); {
	case left <= 0:
		s.log.Error("the certificate has expired: clients and servers refuse it; renew it", "setting", s.pair.name, "path", s.pair.paths[0], "expired", report.Moment(end))
	case left <= expiryWarning:
		s.log.Warn("the certificate expires soon: renew it", "setting", s.pair.name, "path", s.pair.paths[0], "expires", report.Moment(end), "days", int(left/(24*time.Hour)))
	}
}

var (
	certificateEnd = prometheus.NewDesc("rempart_certificate_expiry_timestamp_seconds",
		"When the certificate in use expires, in Unix seconds.", []string{"setting"}, nil)
	certificateRefused = prometheus.NewDesc("rempart_certificate_unusable",
		"1 while a changed certificate file cannot be used and its earlier content stays in use.", []string{"setting"}, nil)
)

// Describe implements prometheus.Collector.
func (s *ServerCertificate) Describe(to chan<- *prometheus.Desc) {
	to <- certificateEnd
	to <- certificateRefused
}

// Collect implements prometheus.Collector.
func (s *ServerCertificate) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(certificateEnd, prometheus.GaugeValue, float64(s.pair.get().Leaf.NotAfter.Unix()), s.pair.name)
	for _, f := range s.Files() {
		value := 0.0
		if f.refused() {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(certificateRefused, prometheus.GaugeValue, value, f.Setting())
	}
}

// NewAuthorities reads the certificates of REMPART_CONTROL_CA. It returns nil if the setting is empty, so that the authorities of the system apply.
func NewAuthorities(c *config.Config, log *slog.Logger) (*Reloadable[*x509.CertPool], error) {
	if c.ControlCA == "" {
		return nil, nil
	}
	r, err := newReloadable(log, "REMPART_CONTROL_CA", []string{c.ControlCA}, func() (*x509.CertPool, error) { return ReadCertificates(c.ControlCA) })
	if err != nil {
		return nil, config.Bad("CONTROL_CA", c.ControlCA, err.Error())
	}
	return r, nil
}

// ReadCertificates reads a file of PEM certificates.
func ReadCertificates(path string) (*x509.CertPool, error) {
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
