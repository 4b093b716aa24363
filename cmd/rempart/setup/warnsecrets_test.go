package setup

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/config"
)

// TestReadableSecretFileIsReported checks that a warning is logged for a file with a secret that everyone can read or write, and not for one that only its
// group or its owner can read.
func TestReadableSecretFileIsReported(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, content)
		return path
	}
	c := &config.Config{}
	c.PushKey, c.ControlTokenFile, c.RPZKeys, c.NATSCreds, c.NATSSystem, c.CookieSecrets = file("push.key", "x"), file("token", "x"), file("rpz", "x"), file("creds", "x"), file("system", "x"), file("cookies", "x")
	c.Feeds = file("feeds.toml", "[[feed]]\nname=\"a\"\nurl=\"https://user:secret@lists.example/a\"\n")
	paths := []string{c.PushKey, c.ControlTokenFile, c.RPZKeys, c.NATSCreds, c.NATSSystem, c.CookieSecrets, c.Feeds}
	warned := func(mode os.FileMode) string {
		t.Helper()
		for _, path := range paths {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		WarnSecrets(c, slog.New(slog.NewTextHandler(&out, nil)))
		return out.String()
	}
	for _, mode := range []os.FileMode{0o644, 0o666, 0o602} {
		said := warned(mode)
		for _, path := range paths {
			if strings.Count(said, "chmod 600 "+path) != 1 {
				t.Errorf("mode %o: no warning about %s:\n%s", mode, path, said)
			}
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		if said := warned(mode); said != "" {
			t.Errorf("mode %o: %s", mode, said)
		}
	}
	writeFile(t, c.Feeds, "[[feed]]\nname=\"a\"\nurl=\"https://lists.example/a\"\n")
	if err := os.Chmod(c.Feeds, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	WarnSecrets(c, slog.New(slog.NewTextHandler(&out, nil)))
	if strings.Contains(out.String(), c.Feeds) {
		t.Errorf("a feeds file without a secret: %s", out.String())
	}
}
