package acme

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// Protocol is the protocol (ALPN) of a connection by which an authority checks a challenge (RFC 8737).
const Protocol = acmez.ACMETLS1Protocol

// challengeFolder is where an authority looks for the answer over HTTP (RFC 8555 section 8.3).
const challengeFolder = "/.well-known/acme-challenge/"

// challenges holds the answers to the challenges that an authority checks at the moment.
type challenges struct {
	mu           sync.Mutex
	certificates map[string]*tls.Certificate // by name
	texts        map[string]string           // by name and path
}

func newChallenges() *challenges {
	return &challenges{certificates: map[string]*tls.Certificate{}, texts: map[string]string{}}
}

// overTLS answers challenges by a certificate.
type overTLS struct{ *challenges }

// Present implements acmez.Solver.
func (o overTLS) Present(_ context.Context, c acme.Challenge) error {
	certificate, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.certificates[c.Identifier.Value] = certificate
	return nil
}

// CleanUp implements acmez.Solver.
func (o overTLS) CleanUp(_ context.Context, c acme.Challenge) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.certificates, c.Identifier.Value)
	return nil
}

// overHTTP answers challenges by a text at a path.
type overHTTP struct{ *challenges }

// Present implements acmez.Solver.
func (o overHTTP) Present(_ context.Context, c acme.Challenge) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.texts[c.Identifier.Value+c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

// CleanUp implements acmez.Solver.
func (o overHTTP) CleanUp(_ context.Context, c acme.Challenge) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.texts, c.Identifier.Value+c.HTTP01ResourcePath())
	return nil
}

// IsChallenge reports whether a client offers only the protocol of challenges.
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol
}

// ChallengeCertificate returns the certificate that answers the challenge for a name. Without a challenge it returns an error.
func (m *Manager) ChallengeCertificate(name string) (*tls.Certificate, error) {
	m.challenges.mu.Lock()
	defer m.challenges.mu.Unlock()
	if c := m.challenges.certificates[strings.ToLower(name)]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no ACME challenge is under way for %q", name)
}

// Handler answers challenges over HTTP, and passes all other requests to next.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := m.challengeText(r); text != "" {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(w, text)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// challengeText returns the answer to a request of an authority; "" if the request is another one.
func (m *Manager) challengeText(r *http.Request) string {
	if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, challengeFolder) {
		return ""
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	m.challenges.mu.Lock()
	defer m.challenges.mu.Unlock()
	return m.challenges.texts[strings.ToLower(host)+r.URL.Path]
}
