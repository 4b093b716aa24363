package setup

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/config"
	"rempart/internal/secret"
)

// TestCookieSecrets checks that the secrets of the file are used, that a change of the file applies, and that a file that cannot be used changes nothing and reveals
// no secret.
func TestCookieSecrets(t *testing.T) {
	const first, second = "e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"
	path := filepath.Join(t.TempDir(), "cookies")
	c := &config.Config{}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	random, err := NewCookies(c, secret.Random(), log)
	if err != nil || random.Secrets() == nil || random.Files().Run(t.Context()) != nil {
		t.Fatalf("without a file: %v", err)
	}
	random.Files().Reload()
	c.CookieSecrets = path
	if _, err := NewCookies(c, secret.Random(), log); err == nil || !strings.Contains(err.Error(), "REMPART_COOKIE_SECRETS") {
		t.Errorf("a missing file: %v", err)
	}
	writeFile(t, path, first+"\n")
	cookies, err := NewCookies(c, secret.Random(), log)
	if err != nil {
		t.Fatal(err)
	}
	before := cookies.Secrets()
	writeFile(t, path, second+"\n"+first+"\n")
	if cookies.Files().Reload(); cookies.Secrets() == before {
		t.Error("the changed file does not apply")
	}
	before = cookies.Secrets()
	writeFile(t, path, second+"\n"+first[1:]+"\n")
	if cookies.Files().Reload(); cookies.Secrets() != before {
		t.Error("a file that cannot be used applies")
	}
	if said := out.String(); !strings.Contains(said, "line 2 is not a secret") || strings.Contains(said, first[1:]) || strings.Contains(said, second) {
		t.Errorf("unexpected log:\n%s", said)
	}
}
