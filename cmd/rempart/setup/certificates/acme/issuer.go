package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
)

const (
	requestTimeout = time.Minute     // of one HTTP request
	pollTimeout    = 3 * time.Minute // for the authority to check a challenge, or to issue
)

// issuer requests certificates from one authority. It implements certmagic.Issuer and certmagic.RenewalInfoGetter. certmagic's own issuer is not used, because it
// connects with the system's resolver, which may be this server, and opens listeners for challenges.
type issuer struct {
	client  *acmez.Client
	storage certmagic.Storage
	contact []string
	key     string // names the authority in paths

	mu sync.Mutex // held while the account is opened
}

func newIssuer(c Config, storage certmagic.Storage, answers *challenges, log *zap.Logger) *issuer {
	transport := &http.Transport{DialContext: c.Dial, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: requestTimeout / 2, IdleConnTimeout: requestTimeout}
	if c.Roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: c.Roots}
	}
	i := &issuer{storage: storage, key: authorityKey(c.Directory), client: &acmez.Client{
		Client: &acme.Client{
			Directory: c.Directory, UserAgent: "Rempart", PollTimeout: pollTimeout,
			HTTPClient: &http.Client{Transport: transport, Timeout: requestTimeout},
			Logger:     slog.New(zapslog.NewHandler(log.Core())), // the same filter as for the lines of certmagic
		},
		ChallengeSolvers: map[string]acmez.Solver{},
	}}
	if c.Email != "" {
		i.contact = []string{"mailto:" + c.Email}
	}
	if c.OverTLS {
		i.client.ChallengeSolvers[acme.ChallengeTypeTLSALPN01] = overTLS{answers}
	}
	if c.OverHTTP {
		i.client.ChallengeSolvers[acme.ChallengeTypeHTTP01] = overHTTP{answers}
	}
	return i
}

// authorityKey returns the host and the path of a directory as one part of a path.
func authorityKey(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return directory // certmagic removes the characters that paths must not have
	}
	return strings.Trim(u.Host+strings.ReplaceAll(u.Path, "/", "-"), "-")
}

// IssuerKey implements certmagic.Issuer.
func (i *issuer) IssuerKey() string { return i.key }

// Issue implements certmagic.Issuer: it requests the certificate of a signing request.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	account, err := i.account(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the account: %w", err)
	}
	order, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	chains, err := i.client.ObtainCertificate(ctx, order)
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority returned no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

// GetRenewalInfo implements certmagic.RenewalInfoGetter: it asks when the authority suggests to renew a certificate (RFC 9773).
func (i *issuer) GetRenewalInfo(ctx context.Context, c certmagic.Certificate) (acme.RenewalInfo, error) {
	return i.client.GetRenewalInfo(ctx, c.Leaf)
}

// account returns the account of the stored key. The authority creates it when it sees the key for the first time, and otherwise returns the one that it has (RFC
// 8555 section 7.3.1), so that nothing but the key is stored.
func (i *issuer) account(ctx context.Context) (acme.Account, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, err := i.accountKey(ctx)
	if err != nil {
		return acme.Account{}, err
	}
	return i.client.NewAccount(ctx, acme.Account{Contact: i.contact, TermsOfServiceAgreed: true, PrivateKey: key})
}

// accountKey returns the stored key of the account, or stores a new one.
func (i *issuer) accountKey(ctx context.Context) (crypto.Signer, error) {
	at := certmagic.StorageKeys.Safe(i.key) + "/account.key"
	text, err := i.storage.Load(ctx, at)
	if err == nil {
		key, err := certmagic.PEMDecodePrivateKey(text)
		if err != nil {
			return nil, fmt.Errorf("the key %s is damaged; remove it to open a new account: %w", at, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}.GenerateKey()
	if err != nil {
		return nil, err
	}
	if text, err = certmagic.PEMEncodePrivateKey(key); err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the new key cannot sign")
	}
	return signer, i.storage.Store(ctx, at, text)
}

// close closes idle connections.
func (i *issuer) close() { i.client.HTTPClient.CloseIdleConnections() }
