package certificates

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/config"
	"rempart/internal/dnstest"
)

// TestExpiryWarning checks that a warning is logged in the last two weeks before a certificate expires, and after its expiry.
func TestExpiryWarning(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	c := &config.Config{}
	dir := t.TempDir()
	c.PushCert, c.PushKey = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	dnstest.WriteCertificate(t, dnstest.Certificate(t, &x509.Certificate{NotAfter: end}, nil), c.PushCert, c.PushKey)
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
