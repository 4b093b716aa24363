package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/config"
)

// TestExpiryWarning checks that a warning is logged in the last two weeks before a certificate expires, and after its expiry.
func TestExpiryWarning(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	c := &config.Config{}
	c.PushCert, c.PushKey = selfSigned(t, end)
	var log bytes.Buffer
	s, err := NewAPI(c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for before, want := range map[time.Duration]string{15 * 24 * time.Hour: "", 13 * 24 * time.Hour: "WARN", time.Minute: "WARN", -time.Minute: "ERROR"} {
		log.Reset()
		s.warnExpiry(end.Add(-before))
		if (want == "") != (log.Len() == 0) || !strings.Contains(log.String(), want) {
			t.Errorf("%s before: %q, want %q", before, log.String(), want)
		}
	}
}

// selfSigned writes a certificate that is valid until end, and its key, and returns the paths of both files.
func selfSigned(t *testing.T, end time.Time) (certificate, key string) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-48 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
