package setup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/reload"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// ControlSource is the journal that REMPART_CONTROL names, with the files that are needed to connect to it.
type ControlSource struct {
	journal.Source
	Close func() // ends the connections
	files []reload.File
}

// NewControlSource returns the journal of REMPART_CONTROL. It connects at once to a NATS cluster, and over HTTP with the first request. node is the name under
// which the caller follows the journal. The caller calls Close when it no longer uses the source.
func NewControlSource(c *config.Config, node string, opt EdgeOptions) (*ControlSource, error) {
	s := &ControlSource{}
	authorities, err := certificates.NewAuthorities(c, opt.Log)
	if err != nil {
		return nil, err
	}
	var pool func() (*x509.CertPool, error)
	if authorities != nil {
		s.files = append(s.files, authorities)
		pool = func() (*x509.CertPool, error) { return authorities.Get(), nil }
	}
	token := func() string { return c.ControlToken }
	if c.ControlTokenFile != "" {
		file, err := reload.New(opt.Log, "REMPART_CONTROL_TOKEN_FILE", []string{c.ControlTokenFile}, func() (string, error) { return secrets.ReadTokenFile(c.ControlTokenFile) })
		if err != nil {
			return nil, config.Bad("CONTROL_TOKEN_FILE", c.ControlTokenFile, err.Error())
		}
		s.files, token = append(s.files, file), file.Get
	}
	if strings.HasPrefix(c.Control, "http") {
		client := controlClient(opt.Dial, pool)
		s.Close = client.CloseIdleConnections
		if s.Source, err = mirror.NewClient(c.Control, token, client); err != nil {
			return nil, config.Bad("CONTROL", c.Control, err.Error())
		}
		return s, nil
	}
	r, err := stream.Connect(context.Background(), stream.NodeConfig{URL: c.Control, Name: node, Credentials: c.NATSCreds, RootCAs: pool, Log: opt.Log})
	if err != nil {
		return nil, fmt.Errorf("REMPART_CONTROL: %w", err)
	}
	s.Source, s.Close = journal.FromStream(r, node), func() { _ = r.Close() }
	return s, nil
}

// controlClient returns an HTTP client that checks servers against the authorities that pool returns for each connection. With a nil pool the authorities of
// the system apply.
func controlClient(dial func(ctx context.Context, network, addr string) (net.Conn, error), pool func() (*x509.CertPool, error)) *http.Client {
	transport := &http.Transport{DialContext: dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 4}
	transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"h2", "http/1.1"}}
		if pool != nil {
			if secure.RootCAs, err = pool(); err != nil {
				return nil, err
			}
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		client := tls.Client(conn, secure)
		handshake, cancel := context.WithTimeout(ctx, transport.TLSHandshakeTimeout)
		defer cancel()
		if err := client.HandshakeContext(handshake); err != nil {
			conn.Close()
			return nil, err
		}
		return client, nil
	}
	return &http.Client{Transport: transport}
}

// ParseRootKeys parses the root keys in REMPART_CONTROL_KEY.
func ParseRootKeys(texts []string) (roots []signing.PublicKey, err error) {
	for _, text := range texts {
		k, err := signing.ParsePublicKey(text)
		if err != nil {
			return nil, config.Bad("CONTROL_KEY", text, err.Error())
		}
		roots = append(roots, k)
	}
	return roots, nil
}
