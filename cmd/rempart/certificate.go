package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"rempart/internal/config"
)

// certificateFile is a certificate that is read again when its file changed: it is renewed while the program runs.
type certificateFile struct {
	cert, key string

	mu   sync.Mutex
	last *tls.Certificate
	at   time.Time // the file's, when it was read
}

// get is tls.Config's GetCertificate. A new one that cannot be read leaves the old one in use.
func (c *certificateFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.cert)
	if err == nil && c.last != nil && info.ModTime().Equal(c.at) {
		return c.last, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.last, c.at = &pair, info.ModTime()
		}
	}
	if c.last == nil {
		return nil, err
	}
	return c.last, nil
}

// serverTLS is REMPART_PUSH_CERT, nil for none. The files are read again when they changed.
func serverTLS(c *config.Config) (*tls.Config, error) {
	if c.PushCert == "" {
		return nil, nil
	}
	certificate := &certificateFile{cert: c.PushCert, key: c.PushKey}
	if _, err := certificate.get(nil); err != nil {
		return nil, config.Bad("PUSH_CERT", c.PushCert, err.Error())
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get, NextProtos: []string{"h2", "http/1.1"}}
	if c.PushClientCA != "" {
		pool, err := certificates(c.PushClientCA)
		if err != nil {
			return nil, config.Bad("PUSH_CLIENT_CA", c.PushClientCA, err.Error())
		}
		t.ClientCAs, t.ClientAuth = pool, tls.VerifyClientCertIfGiven
	}
	return t, nil
}
