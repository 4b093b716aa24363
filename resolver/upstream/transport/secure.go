package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

const sessionsKept = 4 // TLS sessions for resumption (RFC 8446 section 2.2), per upstream

// errHandshake is wrapped by the errors of a TLS handshake.
var errHandshake = errors.New("TLS handshake")

// errPins is wrapped by the error that no key of the server is pinned.
var errPins = errors.New("the certificate is not pinned")

// tlsConfig returns the TLS configuration for an encrypted endpoint. protocol is its name in ALPN (RFC 7301).
func tlsConfig(e Endpoint, roots *x509.CertPool, protocol string) *tls.Config {
	config := &tls.Config{
		RootCAs: roots, ServerName: e.Name, MinVersion: tls.VersionTLS12, NextProtos: []string{protocol},
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept),
	}
	if e.Name == "" {
		config.ServerName = e.Addr.Addr().WithZone("").String()
	}
	if pins := strings.Fields(e.Pins); len(pins) > 0 {
		config.InsecureSkipVerify = e.Name == "" // the key alone identifies a server without a name (RFC 8310 section 5)
		config.VerifyConnection = func(state tls.ConnectionState) error { return checkPins(pins, state) }
	}
	return config
}

// checkPins returns an error unless the key of the server, or of an authority on the first verified chain to it, is pinned.
func checkPins(pins []string, state tls.ConnectionState) error {
	chain := state.PeerCertificates[:1] // a server can send any further certificates, so that only those of a verified chain are compared
	if len(state.VerifiedChains) > 0 {
		chain = state.VerifiedChains[0]
	}
	for _, c := range chain {
		if slices.Contains(pins, keyHash(c)) {
			return nil
		}
	}
	return fmt.Errorf("%w: its key has the hash %s", errPins, keyHash(chain[0]))
}

// keyHash returns the SHA-256 hash of a certificate's public key, in base64 (RFC 7469 section 2.4).
func keyHash(c *x509.Certificate) string {
	hash := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}

// dialTLS returns a function that opens TLS connections to e, over the TCP connections that plain opens.
func dialTLS(e Endpoint, config *tls.Config, plain func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := plain(ctx)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, handshakeError(e, err)
		}
		return secure, nil
	}
}

// handshakeError returns the error of a failed handshake with e, and says how to give the name on the certificate if that is missing.
func handshakeError(e Endpoint, err error) error {
	if e.Name == "" && errors.As(err, new(x509.HostnameError)) {
		err = fmt.Errorf("%w; give the name on the certificate after #, as in %s#dns.example", err, e)
	}
	return fmt.Errorf("%w: %w", errHandshake, err)
}
