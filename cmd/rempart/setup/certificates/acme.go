package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/certificates/acme"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/config"
)

const (
	acmeSetting = config.Prefix + "ACME"
	// acmeWarning is the part of the lifetime of a certificate from which on warnings are logged: certmagic renews when a third is left.
	acmeWarning = 1. / 6
)

// ACME are the certificates that an authority issues for the names of REMPART_ACME.
type ACME struct {
	names   []string
	manager *acme.Manager
	log     *slog.Logger
}

// NewACME loads the stored certificates of the names in REMPART_ACME, without using the network. dial connects to the authority.
func NewACME(c *config.Config, dial func(ctx context.Context, network, address string) (net.Conn, error), log *slog.Logger) (*ACME, error) {
	var roots *x509.CertPool
	if c.ACMECARoot != "" {
		var err error
		if roots, err = ReadPool(c.ACMECARoot); err != nil {
			return nil, config.Bad("ACME_CA_ROOT", c.ACMECARoot, err.Error())
		}
	}
	return &ACME{names: c.ACME, log: log, manager: acme.New(acme.Config{
		Names: c.ACME, Email: c.ACMEEmail, Directory: c.ACMECA, Roots: roots, Folder: filepath.Join(c.DataDir, "acme"),
		OverTLS: len(c.TLSListen)+len(c.HTTPSListen)+len(c.PortalListen) > 0, OverHTTP: len(c.PageListen) > 0, Dial: dial, Log: log,
	})}, nil
}

// TLS returns the TLS settings of a server. A client gets the first certificate that is valid for the name it asks for and whose key it supports, else the first
// one; without any certificate, its handshake fails. An authority gets the answer to its challenge.
func (a *ACME) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{acme.Protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if acme.IsChallenge(hello) {
				return a.manager.ChallengeCertificate(hello.ServerName)
			}
			c := suitable(hello, func(yield func(*tls.Certificate) bool) {
				for _, c := range a.manager.Certificates() {
					if !yield(c.Certificate) {
						return
					}
				}
			})
			if c == nil {
				return nil, errors.New("no certificate was issued yet")
			}
			return c, nil
		},
	}
}

// Page answers the challenges of the authority over HTTP, and passes all other requests to page.
func (a *ACME) Page(page http.Handler) http.Handler { return a.manager.Handler(page) }

// Files returns nil: no other program writes these certificates.
func (a *ACME) Files() reload.Files { return nil }

// Leaves returns the certificates in use.
func (a *ACME) Leaves() (all []*x509.Certificate) {
	for _, c := range a.manager.Certificates() {
		all = append(all, c.Leaf)
	}
	return all
}

// Reload requests missing certificates now.
func (a *ACME) Reload() { a.manager.Retry() }

// Run requests and renews certificates, and logs warnings before one expires, until ctx ends. The listeners must be open.
func (a *ACME) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.manager.Run(ctx) })
	g.Go(func() error { return warnDaily(ctx, a.warnExpiry) })
	return g.Wait()
}

// warnExpiry logs which certificates in use expire soon, or have expired, because they could not be renewed.
func (a *ACME) warnExpiry(now time.Time) {
	for _, c := range a.manager.Certificates() {
		end := c.Leaf.NotAfter
		lifetime := end.Sub(c.Leaf.NotBefore)
		switch left := end.Sub(now); {
		case left <= 0:
			a.log.Error("the certificate has expired: clients refuse it; the errors of its renewal say what to do", "setting", acmeSetting, "name", c.Name, "expired", report.Moment(end))
		case left <= time.Duration(float64(lifetime)*acmeWarning):
			a.log.Warn("the certificate expires soon and was not renewed; the errors of its renewal say what to do", "setting", acmeSetting, "name", c.Name, "expires", report.Moment(end))
		}
	}
}

func acmeFailuresDesc() *prometheus.Desc {
	return prometheus.NewDesc("rempart_acme_failures_total", "Requests for a certificate, or for its renewal, that failed.", []string{"name"}, nil)
}

// Describe implements prometheus.Collector.
func (a *ACME) Describe(to chan<- *prometheus.Desc) {
	to <- endDesc(acmeSetting)
	to <- acmeFailuresDesc()
}

// Collect implements prometheus.Collector.
func (a *ACME) Collect(to chan<- prometheus.Metric) {
	for _, c := range a.manager.Certificates() {
		to <- prometheus.MustNewConstMetric(endDesc(acmeSetting), prometheus.GaugeValue, float64(c.Leaf.NotAfter.Unix()), c.Path)
	}
	for _, name := range a.names {
		to <- prometheus.MustNewConstMetric(acmeFailuresDesc(), prometheus.CounterValue, float64(a.manager.Failures(name)), name)
	}
}
