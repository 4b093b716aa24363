package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/config"
	"rempart/internal/durable"
)

const (
	// expiryWarning is the time before the expiry of a certificate from which on warnings are logged.
	expiryWarning = 14 * 24 * time.Hour
	// expiryEvery is the time between two warnings.
	expiryEvery = 24 * time.Hour
)

// FromFiles are the certificates of a setting, each with its key. They are loaded again when their files change.
type FromFiles struct {
	log     *slog.Logger
	setting string
	pairs   []*reload.Value[*tls.Certificate] // at least one
	more    []reload.File                     // other files whose state belongs to the same metrics
}

// NewPublic reads the certificates of the encrypted transports (REMPART_CERT).
func NewPublic(c *config.Config, log *slog.Logger) (*FromFiles, error) {
	return newCertificates("CERT", c.Cert, c.Key, log)
}

// newCertificates reads certificates and their keys, in the same order. variable names the setting of the certificates, without prefix.
func newCertificates(variable string, certificates, keys []string, log *slog.Logger) (*FromFiles, error) {
	s := &FromFiles{log: log, setting: config.Prefix + variable}
	for i, certificate := range certificates {
		started := false
		pair, err := reload.New(log, s.setting, []string{certificate, keys[i]}, func() (*tls.Certificate, error) {
			pair, err := readPair(certificate, keys[i])
			if err == nil && started { // an expired certificate does not prevent a start
				err = validNow(pair.Leaf, time.Now())
			}
			return pair, err
		})
		if err != nil {
			return nil, config.Bad(variable, certificate, err.Error())
		}
		started = true
		s.pairs = append(s.pairs, pair)
	}
	return s, nil
}

// API is the certificate of REMPART_PUSH_CERT, which the operators' API and policy zones share, and the authorities for client certificates. Both
// are loaded again when their files change.
type API struct {
	*FromFiles
	clients *reload.Value[*x509.CertPool] // nil: no client certificates
}

// NewAPI reads the certificate that the settings name; it returns nil if they name none.
func NewAPI(c *config.Config, log *slog.Logger) (*API, error) {
	if c.PushCert == "" {
		return nil, nil
	}
	pair, err := newCertificates("PUSH_CERT", []string{c.PushCert}, []string{c.PushKey}, log)
	if err != nil {
		return nil, err
	}
	s := &API{FromFiles: pair}
	if c.PushClientCA == "" {
		return s, nil
	}
	s.clients, err = reload.New(log, "REMPART_PUSH_CLIENT_CA", []string{c.PushClientCA}, func() (*x509.CertPool, error) { return ReadPool(c.PushClientCA) })
	if err != nil {
		return nil, config.Bad("PUSH_CLIENT_CA", c.PushClientCA, err.Error())
	}
	s.more = append(s.more, s.clients)
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

// HasName reports whether the first certificate in use is valid for a host name.
func (s *FromFiles) HasName(name string) bool {
	return s.pairs[0].Get().Leaf.VerifyHostname(name) == nil
}

// Leaves returns the certificates in use.
func (s *FromFiles) Leaves() (all []*x509.Certificate) {
	for _, pair := range s.pairs {
		all = append(all, pair.Get().Leaf)
	}
	return all
}

// TLS returns the TLS settings of a server. A client gets the first certificate that is valid for the name it asks for and whose key it supports, else the first
// one.
func (s *FromFiles) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return suitable(hello, func(yield func(*tls.Certificate) bool) {
				for _, pair := range s.pairs {
					if !yield(pair.Get()) {
						return
					}
				}
			}), nil
		},
	}
}

// suitable returns the first certificate that is valid for the name a client asks for and whose key it supports, else the first one; nil if there is none.
func suitable(hello *tls.ClientHelloInfo, all iter.Seq[*tls.Certificate]) (first *tls.Certificate) {
	for c := range all {
		if hello.SupportsCertificate(c) == nil {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

// ServerTLS returns the TLS settings of a server that does not request client certificates. It returns nil for a nil certificate.
func (s *API) ServerTLS() *tls.Config {
	if s == nil {
		return nil
	}
	return s.TLS()
}

// APITLS returns the TLS settings of the operators' API, where a client certificate can identify the caller. It returns nil for a nil certificate.
func (s *API) APITLS() *tls.Config {
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
		now.ClientCAs = s.clients.Get()
		return now, nil
	}
	return t
}

// Files returns the files that are loaded again when they change.
func (s *API) Files() reload.Files {
	if s == nil {
		return nil
	}
	return s.FromFiles.Files()
}

// RunWarnings is FromFiles.RunWarnings, also for a nil certificate.
func (s *API) RunWarnings(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.FromFiles.RunWarnings(ctx)
}

// Files returns the files that are loaded again when they change.
func (s *FromFiles) Files() (all reload.Files) {
	for _, pair := range s.pairs {
		all = append(all, pair)
	}
	return append(all, s.more...)
}

// Run loads changed files again, and logs warnings before a certificate expires, until ctx ends.
func (s *FromFiles) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Files().Run(ctx) })
	g.Go(func() error { return s.RunWarnings(ctx) })
	return g.Wait()
}

// Reload reads the files now.
func (s *FromFiles) Reload() { s.Files().Reload() }

// RunWarnings logs warnings before a certificate in use expires. It returns when ctx ends.
func (s *FromFiles) RunWarnings(ctx context.Context) error {
	return warnDaily(ctx, s.warnExpiry)
}

// warnDaily calls warn now and then once a day. It returns when ctx ends.
func warnDaily(ctx context.Context, warn func(now time.Time)) error {
	ticker := time.NewTicker(expiryEvery)
	defer ticker.Stop()
	for {
		warn(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// warnExpiry logs which certificates in use expire soon, or have expired.
func (s *FromFiles) warnExpiry(now time.Time) {
	for _, pair := range s.pairs {
		end := pair.Get().Leaf.NotAfter
		switch left := end.Sub(now); {
		case left <= 0:
			s.log.Error("the certificate has expired: clients and servers refuse it; renew it", "setting", s.setting, "path", pair.Path(), "expired", report.Moment(end))
		case left <= expiryWarning:
			s.log.Warn("the certificate expires soon: renew it", "setting", s.setting, "path", pair.Path(), "expires", report.Moment(end), "days", int(left/(24*time.Hour)))
		}
	}
}

// The descriptions of the metrics hold the setting, so that one registry takes the certificates of several settings.
func endDesc(setting string) *prometheus.Desc {
	return prometheus.NewDesc("rempart_certificate_expiry_timestamp_seconds", "When the certificate in use expires, in Unix seconds.",
		[]string{"path"}, prometheus.Labels{"setting": setting})
}

func refusedDesc(setting string) *prometheus.Desc {
	return prometheus.NewDesc("rempart_certificate_unusable", "1 while a changed certificate file cannot be used and its earlier content stays in use.",
		nil, prometheus.Labels{"setting": setting})
}

// Describe implements prometheus.Collector.
func (s *FromFiles) Describe(to chan<- *prometheus.Desc) {
	to <- endDesc(s.setting)
	for setting := range s.refused() {
		to <- refusedDesc(setting)
	}
}

// Collect implements prometheus.Collector.
func (s *FromFiles) Collect(to chan<- prometheus.Metric) {
	for _, pair := range s.pairs {
		to <- prometheus.MustNewConstMetric(endDesc(s.setting), prometheus.GaugeValue, float64(pair.Get().Leaf.NotAfter.Unix()), pair.Path())
	}
	for setting, value := range s.refused() {
		to <- prometheus.MustNewConstMetric(refusedDesc(setting), prometheus.GaugeValue, value)
	}
}

// refused returns 1 for each setting with a changed file that cannot be used, and 0 for the others.
func (s *FromFiles) refused() map[string]float64 {
	all := map[string]float64{}
	for _, f := range s.Files() {
		all[f.Setting()] += 0
		if f.Problem() != "" {
			all[f.Setting()] = 1
		}
	}
	return all
}

// NewAuthorities reads the certificates of REMPART_CONTROL_CA. It returns nil if the setting is empty, so that the authorities of the system apply.
func NewAuthorities(c *config.Config, log *slog.Logger) (*reload.Value[*x509.CertPool], error) {
	if c.ControlCA == "" {
		return nil, nil
	}
	r, err := reload.New(log, "REMPART_CONTROL_CA", []string{c.ControlCA}, func() (*x509.CertPool, error) { return ReadPool(c.ControlCA) })
	if err != nil {
		return nil, config.Bad("CONTROL_CA", c.ControlCA, err.Error())
	}
	return r, nil
}

// ReadPool reads a file of PEM certificates.
func ReadPool(path string) (*x509.CertPool, error) {
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
