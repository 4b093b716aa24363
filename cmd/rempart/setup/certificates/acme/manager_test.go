package acme

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

const name = "dns.example.org"

// newManager returns a manager whose authority cannot be reached, and its log, which can be read when Run has returned.
func newManager(t *testing.T, folder string) (*Manager, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return New(Config{
		Names: []string{name}, Directory: "https://ca.example/acme/directory", Folder: folder, OverTLS: true, OverHTTP: true, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("the cable is cut") },
	}), &log
}

// run runs a manager until ok, and checks that nothing is left running.
func run(t *testing.T, m *Manager, before int, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	end := time.Now().Add(time.Minute)
	for !ok() && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if !ok() {
		t.Error("it does not happen")
	}
	cancel()
	<-ended
	// certmagic looks every five seconds whether a lock was released.
	for runtime.NumGoroutine() > before && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		stacks := make([]byte, 64<<10)
		t.Errorf("%d goroutines are left, of which %d were there before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
	}
}

func TestFailedRequestIsLoggedAndNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	m, log := newManager(t, t.TempDir())
	run(t, m, before, func() bool { return m.Failures(name) == 1 })
	for _, want := range []string{"there is no certificate yet", "name=dns.example.org", "the cable is cut", "TLS handshakes for the name fail until", "REMPART_ACME_CA", "next_attempt=1m0s"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "the cable is cut"); n != 1 {
		t.Errorf("the cause is logged %d times:\n%s", n, log)
	}
}

func TestRetryRequestsAgain(t *testing.T) {
	m, _ := newManager(t, t.TempDir())
	run(t, m, runtime.NumGoroutine(), func() bool {
		if m.Failures(name) == 1 {
			m.Retry()
		}
		return m.Failures(name) >= 2
	})
}

func TestDamagedCertificateIsReported(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	keys := certmagic.StorageKeys
	const issuer = "ca.example-acme-directory"
	for _, key := range []string{keys.SiteCert(issuer, name), keys.SitePrivateKey(issuer, name), keys.SiteMeta(issuer, name)} {
		path := filepath.Join(dir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, log := newManager(t, dir)
	run(t, m, before, func() bool { return m.Failures(name) == 1 })
	for _, want := range []string{filepath.Join(dir, filepath.FromSlash(keys.SiteCert(issuer, name))), "remove that file"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// TestChallengesAreAnswered presents a challenge of each kind, and asks for them and for others.
func TestChallengesAreAnswered(t *testing.T) {
	m, _ := newManager(t, t.TempDir())
	defer m.cache.Stop()
	challenge := acme.Challenge{Type: acme.ChallengeTypeHTTP01, Token: "tok", KeyAuthorization: "tok.thumb", Identifier: acme.Identifier{Type: "dns", Value: name}}
	web := httptest.NewServer(m.Handler(http.NotFoundHandler()))
	defer web.Close()
	ask := func(host, path string) (code int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if err := (overHTTP{m.challenges}).Present(t.Context(), challenge); err != nil {
		t.Fatal(err)
	}
	if err := (overTLS{m.challenges}).Present(t.Context(), challenge); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host, path string
		want       int
	}{
		{name, challengeFolder + "tok", http.StatusOK}, {"DNS.example.org:80", challengeFolder + "tok", http.StatusOK},
		{"other.example.org", challengeFolder + "tok", http.StatusNotFound}, {name, challengeFolder + "tik", http.StatusNotFound}, {name, "/", http.StatusNotFound},
	} {
		if got := ask(tt.host, tt.path); got != tt.want {
			t.Errorf("%s%s: %d, want %d", tt.host, tt.path, got, tt.want)
		}
	}
	if c, err := m.ChallengeCertificate("DNS.example.org"); err != nil || c == nil {
		t.Errorf("the certificate of the challenge: %v", err)
	}
	if _, err := m.ChallengeCertificate("other.example.org"); err == nil {
		t.Error("another name has a certificate of a challenge")
	}
	_ = overHTTP{m.challenges}.CleanUp(t.Context(), challenge)
	_ = overTLS{m.challenges}.CleanUp(t.Context(), challenge)
	if _, err := m.ChallengeCertificate(name); err == nil || ask(name, challengeFolder+"tok") != http.StatusNotFound {
		t.Error("a challenge is answered after its end")
	}
}

// TestLogHoldsNoClientAddress passes lines of certmagic through the filter.
func TestLogHoldsNoClientAddress(t *testing.T) {
	var out bytes.Buffer
	var silent atomic.Bool
	log := zapLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), &silent)
	log.With(zap.String("remote", "192.0.2.9")).Info("served", zap.String("remote_addr", "192.0.2.9"), zap.String("identifier", name))
	log.Error("failed", zap.Error(errors.New("no route")))
	silent.Store(true)
	log.Error("interrupted")
	got := out.String()
	if strings.Contains(got, "192.0.2.9") || strings.Contains(got, "interrupted") {
		t.Errorf("the log is %s", got)
	}
	for _, want := range []string{`level=DEBUG msg="ACME: served" identifier=dns.example.org`, `level=WARN msg="ACME: failed" error="no route"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s:\n%s", want, got)
		}
	}
}
