package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"rempart/internal/pause"
)

// The time between two requests for a certificate that no one has issued yet: it doubles from the first to the last of these.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// recent is how long a look at certmagic's cache is used: a look costs a tenth of a handshake.
const recent = time.Second

// Config configures a Manager.
type Config struct {
	Names     []string       // each gets a certificate of its own; ASCII in lower case
	Email     string         // for the authority to reach the owner of the account; may be empty
	Directory string         // URL of the authority's directory (RFC 8555 section 7.1.1)
	Roots     *x509.CertPool // against which the certificate of Directory is checked; nil: the system's
	Folder    string         // for keys and certificates; created with mode 0700 when something is stored
	OverTLS   bool           // listeners answer challenges over TLS (TLS-ALPN-01)
	OverHTTP  bool           // listeners answer challenges over HTTP (HTTP-01)
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Log       *slog.Logger
}

// Manager gets, stores and renews certificates. Its methods are safe for concurrent use.
type Manager struct {
	names      []string
	directory  string
	log        *slog.Logger
	storage    *certmagic.FileStorage
	magic      *certmagic.Config
	cache      *certmagic.Cache
	issuer     *issuer
	challenges *challenges
	seen       atomic.Pointer[inUse]     // nil: look again
	wake       map[string]chan struct{}  // by name; a value requests the missing certificate now
	failures   map[string]*atomic.Uint64 // failed requests, by name
	ending     atomic.Bool               // Run ends: interrupted requests are no failures
}

// Certificate is a certificate in use.
type Certificate struct {
	Name string
	Path string // of its file
	*tls.Certificate
}

// inUse are the certificates in use at a time.
type inUse struct {
	all []Certificate
	at  time.Time
}

// New returns a manager that has loaded the stored certificates, without using the network. Run must be called to end it.
func New(c Config) *Manager {
	m := &Manager{
		names: c.Names, directory: c.Directory, log: c.Log, storage: &certmagic.FileStorage{Path: c.Folder}, challenges: newChallenges(),
		wake: map[string]chan struct{}{}, failures: map[string]*atomic.Uint64{},
	}
	zap := zapLogger(c.Log, &m.ending)
	var magic atomic.Pointer[certmagic.Config] // the cache, which needs it later, is made first
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic.Load(), nil }, Logger: zap,
	})
	m.issuer = newIssuer(c, m.storage, m.challenges, zap)
	m.magic = certmagic.New(m.cache, certmagic.Config{
		Storage: m.storage, Issuers: []certmagic.Issuer{m.issuer}, Logger: zap, OnEvent: m.event,
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	magic.Store(m.magic)
	for _, name := range c.Names {
		m.wake[name], m.failures[name] = make(chan struct{}, 1), new(atomic.Uint64)
		_, _ = m.magic.CacheManagedCertificate(context.Background(), name) // obtain repeats it, and reports its error
	}
	return m
}

// path returns the path of the certificate of a name.
func (m *Manager) path(name string) string {
	return m.storage.Filename(certmagic.StorageKeys.SiteCert(m.issuer.IssuerKey(), name))
}

// Certificates returns the certificates in use in the order of Config.Names. Names without a certificate are missing. The caller must not change the result.
func (m *Manager) Certificates() []Certificate {
	now := time.Now()
	if seen := m.seen.Load(); seen != nil && now.Sub(seen.at) < recent {
		return seen.all
	}
	var all []Certificate
	for _, name := range m.names {
		var newest *tls.Certificate
		for _, c := range m.cache.AllMatchingCertificates(name) {
			if newest == nil || c.Leaf.NotAfter.After(newest.Leaf.NotAfter) {
				newest = &c.Certificate
			}
		}
		if newest != nil {
			all = append(all, Certificate{name, m.path(name), newest})
		}
	}
	m.seen.Store(&inUse{all, now})
	return all
}

// Failures returns how many requests for the certificate of a name have failed.
func (m *Manager) Failures(name string) uint64 { return m.failures[name].Load() }

// Retry requests missing certificates now.
func (m *Manager) Retry() {
	for _, wake := range m.wake {
		select {
		case wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// Run requests missing certificates and renews the others in time, until ctx ends. Challenges must be answered from now on.
func (m *Manager) Run(ctx context.Context) error {
	var g sync.WaitGroup
	for _, name := range m.names {
		g.Go(func() { m.obtain(ctx, name) })
	}
	g.Go(func() { _ = m.cache.RenewManagedCertificates(ctx) }) // now, not only after the interval of the cache; it logs its errors
	<-ctx.Done()
	m.ending.Store(true)
	g.Wait()
	m.cache.Stop()
	m.issuer.close()
	// A renewal that was interrupted may not have removed its lock yet, for which the next start would wait.
	certmagic.CleanUpOwnLocks(context.WithoutCancel(ctx), m.magic.Logger)
	return nil
}

// obtain requests a certificate for a name that has none, again and again until there is one or ctx ends.
func (m *Manager) obtain(ctx context.Context, name string) {
	if slices.ContainsFunc(m.Certificates(), func(c Certificate) bool { return c.Name == name }) {
		return
	}
	m.log.Warn("there is no certificate yet: TLS handshakes for the name fail until the authority issues one", "name", name, "authority", m.directory)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := m.request(ctx, name)
		if err == nil || ctx.Err() != nil {
			return
		}
		m.failed(name, err, "TLS handshakes for the name fail until a certificate is issued", "next_attempt", wait)
		if !pause.ForOr(ctx, wait, m.wake[name]) {
			return
		}
	}
}

// request requests a certificate once and uses it.
func (m *Manager) request(ctx context.Context, name string) error {
	if err := m.magic.ObtainCertSync(ctx, name); err != nil {
		return err
	}
	c, err := m.magic.CacheManagedCertificate(ctx, name)
	if err != nil {
		return &storedError{m.path(name), err}
	}
	m.seen.Store(nil)
	m.log.Info("a certificate was issued and is in use", "name", name, "authority", m.directory, "expires", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// storedError is the error of a stored certificate that cannot be used.
type storedError struct {
	path string
	err  error
}

func (e *storedError) Error() string {
	return "the stored certificate " + e.path + ": " + e.err.Error()
}
func (e *storedError) Unwrap() error { return e.err }

// event receives the events of certmagic. Requests of obtain are logged there.
func (m *Manager) event(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	if renewal, _ := data["renewal"].(bool); !renewal {
		return nil
	}
	switch event {
	case "cert_obtained":
		m.log.Info("the certificate was renewed", "name", name, "authority", m.directory)
	case "cert_failed":
		if err, _ := data["error"].(error); ctx.Err() == nil {
			m.failed(name, err, "the present certificate stays in use until it expires")
		}
	}
	return nil
}

// failed counts and logs a failed request.
func (m *Manager) failed(name string, err error, consequence string, more ...any) {
	if counter := m.failures[name]; counter != nil {
		counter.Add(1)
	}
	m.log.Error("there is no new certificate; "+consequence+": "+remedy(err), append([]any{"name", name, "authority", m.directory, "error", err}, more...)...)
}

// remedy returns what the administrator can do about a failed request.
func remedy(err error) string {
	var problem acme.Problem
	var stored *storedError
	switch {
	case errors.As(err, &stored):
		return "remove that file, and Rempart requests a new certificate"
	case !errors.As(err, &problem):
		return "check that the authority of REMPART_ACME_CA can be reached from here and that its certificate is trusted, and that the data folder can be written"
	case problem.Type == acme.ProblemTypeRateLimited:
		return "wait, and correct the cause of earlier failures first"
	default:
		return "check that the addresses of the name in the public DNS lead to this server, and that the authority reaches its port 443 (REMPART_HTTPS_LISTEN) or 80 (REMPART_PAGE_LISTEN) from the Internet"
	}
}
